"""training.fit: it learns, it is seeded, it stops cleanly."""

from __future__ import annotations

import io
import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from calib.errors import QuantizationError
from calib.initialization.first_grids import initialize
from lsq_export import models
from lsq_export.data.dataset import Dataset, TensorSplit
from lsq_export.qat.prepare_model import QATConfig, prepare, quantizers
from lsq_export.training.fit import Epoch, Recipe, evaluate, finetune, predict, pretrain
from support.small_digits import small_digits

pytestmark = pytest.mark.usefixtures("one_thread")
FAST = Recipe(epochs=3, lr=0.1, batch_size=32)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    """500 of the digits, in gray and small."""
    return small_digits(500)


def _tiny(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return models.build("tiny", num_classes=10, in_channels=1)


def _equal(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def _interrupting(data: Dataset, after: int) -> TensorSplit:
    """data's train split that raises KeyboardInterrupt when it is asked for the batch after so many."""
    calls = itertools.count(1)

    class Interrupting(TensorSplit):
        def fetch(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            if next(calls) > after:
                raise KeyboardInterrupt
            return super().fetch(index)

    assert isinstance(data.train, TensorSplit)
    return Interrupting(data.train.x, data.train.y)


def test_float_and_qat_learn(digits: Dataset) -> None:
    model = _tiny()
    result = pretrain(model, digits, 8, recipe=FAST, device="cpu")
    assert result.accuracy > 0.85 and len(result.epochs) == 8 and result.epochs[-1].loss < result.epochs[0].loss
    assert result.accuracy == evaluate(model, digits.batches("test"))
    assert not (result.interrupted or model.training)
    qat = prepare(model, QATConfig(weight_bits=3, activation_bits=3))
    initialize(qat, digits.batches("train", limit=2), method="minmax")
    before = {name: q.scale.item() for name, q in quantizers(qat).items()}
    started = evaluate(qat, digits.batches("test"))
    tuned = finetune(qat, digits, 3, recipe=replace(FAST, lr=0.02))
    assert tuned.accuracy > max(0.8, started - 0.02)
    after = {name: q.scale.item() for name, q in quantizers(qat).items()}
    assert all(after[name] > 0 and after[name] != before[name] for name in before)


def test_the_same_seed_gives_the_same_model(digits: Dataset) -> None:
    a, b, c = _tiny(), _tiny(), _tiny()
    state = torch.random.get_rng_state()
    for model, seed in ((a, 5), (b, 5), (c, 6)):
        pretrain(model, digits, 1, recipe=FAST, seed=seed)
    assert _equal(a, b) and not _equal(a, c)
    assert torch.equal(state, torch.random.get_rng_state())  # the caller's random numbers are left alone


def test_interrupt_keeps_the_last_completed_epoch(digits: Dataset) -> None:
    reference, saved = _tiny(), {}

    def keep(model: nn.Module, epoch: int, metrics: Epoch) -> None:
        saved.update(
            {"epoch": epoch, "state": {k: v.clone() for k, v in model.state_dict().items()}, "metrics": metrics}
        )

    # A check, then epochs of 16 batches: in the third.
    data = replace(digits, train=_interrupting(digits, after=1 + 16 + 16 + 5))
    result = pretrain(reference, data, recipe=FAST, on_epoch=keep)
    assert result.interrupted and len(result.epochs) == 2 and saved["epoch"] == 2
    assert saved["metrics"] == result.epochs[-1]
    assert all(torch.equal(saved["state"][name], tensor) for name, tensor in reference.state_dict().items())


def test_interrupt_in_the_first_epoch_leaves_the_model_as_it_was(digits: Dataset) -> None:
    model = _tiny()
    result = pretrain(model, replace(digits, train=_interrupting(digits, after=3)), recipe=FAST)
    assert result.interrupted and result.epochs == () and math.isnan(result.accuracy)
    assert _equal(model, _tiny())


def test_a_loss_that_is_not_finite_names_its_step(digits: Dataset) -> None:
    model = _tiny()
    with pytest.raises(QuantizationError, match=r"the loss is (nan|inf) in epoch 1, step \d+: lower the learning rate"):
        pretrain(model, digits, recipe=replace(FAST, lr=1e20, warmup=0.0))
    assert _equal(model, _tiny())


def test_unusable_combinations(digits: Dataset) -> None:
    with pytest.raises(
        QuantizationError, match=r"gives \[2, 4\] .*, the data have 10 classes: build it with num_classes=10"
    ):
        pretrain(models.build("tiny", num_classes=4, in_channels=1), digits, recipe=FAST)
    with pytest.raises(QuantizationError, match=r"fails on a batch of two inputs of shape \[1, 16, 16\]: .*channels"):
        pretrain(models.build("tiny", num_classes=10, in_channels=3), digits, recipe=FAST)
    with pytest.raises(QuantizationError, match="has no grid yet"):
        finetune(prepare(_tiny()), digits)
    with pytest.raises(QuantizationError, match="epochs is 0: training needs 1 or more"):
        pretrain(_tiny(), digits, 0)
    with pytest.raises(QuantizationError, match="batch size is 1"):
        pretrain(_tiny(), digits, recipe=replace(FAST, batch_size=1))
    with pytest.raises(QuantizationError, match="the data are empty"):
        predict(_tiny(), [])
    with pytest.raises(QuantizationError, match="inputs only"):
        evaluate(_tiny(), [torch.zeros(2, 1, 16, 16)])


def test_only_a_console_gets_output(digits: Dataset, capsys: Any) -> None:
    from rich.console import Console

    pretrain(_tiny(), digits, 1, recipe=FAST)
    assert capsys.readouterr() == ("", "")
    text = io.StringIO()
    pretrain(_tiny(), digits, 1, recipe=FAST, console=Console(file=text, force_terminal=True, width=120))
    assert "epoch 1/1" in text.getvalue() and "loss" in text.getvalue() and "accuracy" in text.getvalue()
