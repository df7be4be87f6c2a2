"""Recipes at work: a teacher, the average, schedules, seeds, and the files and options of a run."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from safetensors.torch import load_file
from torch import nn

from calib.errors import QuantizationError
from lsq_export import models
from lsq_export.data.dataset import Dataset, TensorSplit
from lsq_export.qat import kernels, memory
from lsq_export.qat.prepare_model import quantizers
from lsq_export.training import curve
from lsq_export.training.fit import FINETUNE, PRETRAIN, PRETRAIN_ADAM, Recipe, evaluate, fit
from lsq_export.training.job import Job, train_low_bit
from lsq_export.training.loop import Loop
from lsq_export.training.optimizer import make_optimizer, make_schedule
from support.commands import TINY_DIGITS, invoke
from support.small_digits import quantized, small_digits

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    """300 of the digits, in gray and small."""
    return small_digits(300)


def _tiny() -> nn.Module:
    torch.manual_seed(0)
    return models.build("tiny", num_classes=10, in_channels=1)


def _qat(data: Dataset) -> nn.Module:
    return quantized(_tiny(), data)


def test_a_teacher_alone_is_learned(digits: Dataset) -> None:
    """With weight 1 the targets of the data do not matter.

    Without a teacher, or with one in the float phase, it is refused.
    """
    teacher, shuffled = (
        _tiny(),
        replace(
            digits, train=TensorSplit(digits.train.fetch(torch.arange(300))[0], torch.zeros(300, dtype=torch.int64))
        ),
    )
    recipe, states = Recipe(epochs=1, lr=0.01, distill=1.0), []
    for data in (digits, shuffled):
        model = _qat(digits)
        fit(model, data, recipe, device="cpu", teacher=teacher)
        states.append(model.state_dict())
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    assert all(
        torch.equal(a, b) for a, b in zip(teacher.state_dict().values(), _tiny().state_dict().values(), strict=True)
    )
    with pytest.raises(QuantizationError, match=r"distill is 1\.0 and there is no teacher"):
        fit(_qat(digits), digits, recipe)
    with pytest.raises(QuantizationError, match="leave it out of the float recipe"):
        Job("tiny", "digits", float_recipe=replace(PRETRAIN, distill=0.5))


def test_the_average_is_what_is_tested_and_kept(digits: Dataset) -> None:
    """Against an average kept by hand.

    That is decay·average + (1 - decay)·parameter, from the first step's parameters on; buffers as they are.
    """
    recipe, decay = Recipe(epochs=2, lr=0.05, batch_size=100, ema=0.75), 0.75
    loop = Loop(_qat(digits), digits, recipe, seed=0, device=CPU)
    by_hand: dict[str, torch.Tensor] = {}

    def follow() -> None:
        for name, p in loop.model.named_parameters():
            by_hand[name] = decay * by_hand[name] + (1 - decay) * p.detach() if name in by_hand else p.detach().clone()
        assert all(bool((q.scale > 0).all()) for q in quantizers(loop.result).values())

    step, loop._step = loop._step, lambda x, y: (step(x, y), follow())  # type: ignore[method-assign,assignment,func-returns-value]
    metrics = loop.run_epoch(lambda text: None, lambda: None)
    metrics = loop.run_epoch(lambda text: None, lambda: None)
    kept = dict(loop.result.named_parameters())
    assert all(torch.allclose(kept[name], value, rtol=1e-5, atol=1e-7) for name, value in by_hand.items())
    assert all(torch.equal(a, b) for a, b in zip(loop.result.buffers(), loop.model.buffers(), strict=True))
    assert metrics.test_accuracy == evaluate(loop.result, digits.batches("test")) and not torch.equal(
        kept["fc.bias"], loop.model.fc.bias
    )
    model = _qat(digits)
    fit(model, digits, recipe, device="cpu")
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in loop.result.state_dict().items())


def test_a_scale_that_a_step_makes_negative_is_positive_when_it_is_tested(digits: Dataset) -> None:
    """Also after the last step, which no forward pass in training mode follows."""
    model = _qat(digits)
    seen: list[bool] = []
    recipe = Recipe(epochs=1, lr=0.05, batch_size=300, grid_lr=1e6, warmup=0.0, schedule="one-cycle")
    fit(
        model,
        digits,
        recipe,
        device="cpu",
        on_epoch=lambda m, e, x: seen.append(all(bool((q.scale > 0).all()) for q in quantizers(m).values())),
    )
    assert seen == [True] and any(torch.equal(q.scale, q.floor) for q in quantizers(model).values())


def test_one_cycle_goes_up_and_down() -> None:
    recipe = replace(PRETRAIN, epochs=4, schedule="one-cycle", lr=0.5)
    optimizer = make_optimizer(_tiny(), recipe)
    schedule, rates, momenta = make_schedule(optimizer, recipe, 10), [], []
    for _ in range(40):
        rates.append(optimizer.param_groups[0]["lr"])
        momenta.append(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        schedule.step()
    assert (
        rates[0] == pytest.approx(0.5 / 25)
        and max(rates) == pytest.approx(0.5)
        and rates.index(max(rates)) == 11
        and rates[-1] < 1e-5
    )
    assert (
        max(momenta) == pytest.approx(0.9) and min(momenta) == pytest.approx(0.8) and momenta.index(min(momenta)) == 11
    )


@pytest.mark.slow
def test_adam_learns_at_its_default_rate(digits: Dataset) -> None:
    model = _tiny()
    assert (
        fit(
            model, digits, replace(PRETRAIN_ADAM, epochs=10, batch_size=16, schedule="one-cycle"), device="cpu"
        ).accuracy
        > 0.8
    )


@pytest.mark.parametrize(
    "change",
    [{"ema": 0.9}, {"optimizer": "adam", "lr": 1e-3}, {"schedule": "one-cycle", "label_smoothing": 0.1}],
    ids=str,
)
def test_the_same_seed_gives_the_same_bits(change: dict[str, Any], digits: Dataset) -> None:
    states = []
    for seed in (3, 3, 4):
        model = _qat(digits)
        fit(model, digits, replace(Recipe(epochs=1, lr=0.02), **change), seed=seed, device="cpu")
        states.append(model.state_dict())
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    assert not all(torch.equal(tensor, states[2][name]) for name, tensor in states[0].items())


def _train(out: Path, *more: str) -> Result:
    arguments = [*TINY_DIGITS, "--out", str(out), "--batch-size", "512", "--device", "cpu"]
    return invoke("train", *arguments, "--float-epochs", "1", "--epochs", "1", *more)


def test_files_of_a_run(tmp_path: Path) -> None:
    log, picture = tmp_path / "log.txt", tmp_path / "c.png"
    options = [
        "--optimizer",
        "adam",
        "--schedule",
        "one-cycle",
        "--ema",
        "0.5",
        "--label-smoothing",
        "0.1",
        "--grid-lr",
        "0.5",
    ]
    result = _train(tmp_path / "a.safetensors", "--log", str(log), "--curve", str(picture), "--distill", *options)
    assert result.exit_code == 0, result.output
    assert {p.name for p in tmp_path.iterdir()} == {"a.safetensors", "log.txt", "c.png"}
    assert [json.loads(line)["phase"] for line in log.read_text().splitlines()] == ["float", "low-bit"]
    for option, path in (("--log", log), ("--curve", picture)):
        again = _train(tmp_path / "b.safetensors", option, str(path))
        assert again.exit_code == 2 and f"{option} {path} exists" in again.stderr and again.stderr.count("\n") == 1
    (tmp_path / "b.jsonl").write_text("mine")
    kept = _train(tmp_path / "b.safetensors")
    assert kept.exit_code == 2 and "b.jsonl exists" in kept.stderr and (tmp_path / "b.jsonl").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--curve", "c.pdf"], "--curve c.pdf: use a name that ends in .svg or .png"),
        (["--log", "t.safetensors"], "must be different files"),
        (["--log", "no/l.jsonl"], "the directory no does not exist"),
        (["--lr", "nan"], "lr is nan"),
    ],
)
def test_bad_options(options: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = _train(Path("t.safetensors"), *options)
    assert (
        result.exit_code == 2
        and says in result.stderr
        and result.stderr.count("\n") == 1
        and list(tmp_path.iterdir()) == []
    )


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(curve, "available", lambda: False)
    refused = _train(tmp_path / "t.safetensors", "--curve", str(tmp_path / "c.svg"))
    assert refused.exit_code == 2 and "needs matplotlib: pip install matplotlib" in refused.stderr
    done = _train(tmp_path / "t.safetensors")
    assert (
        done.exit_code == 0
        and "no curve without matplotlib" in done.stderr
        and {p.name for p in tmp_path.iterdir()} == {"t.safetensors", "t.jsonl"}
    )


TRAIN = ["train", *TINY_DIGITS, "--float-epochs", "0", "--epochs", "1", "--batch-size", "256"]


def _trained(path: Path, *options: str) -> dict[str, torch.Tensor]:
    result = invoke(*TRAIN, "--out", str(path), *options)
    assert result.exit_code == 0, result.output
    return load_file(path)


@pytest.mark.slow
def test_fused_kernels_train_and_are_off_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the kernels' own functions, not compiled: the same bits, and not a call without --fused."""
    calls: list[str] = []

    def counted(name: str) -> Any:
        kernel = getattr(kernels, name)
        return lambda *args: calls.append(name) or kernel(*args)

    monkeypatch.setattr(kernels, "FUSED_FROM", 0)
    fused_kernels = counted("_values"), counted("_gradients")
    monkeypatch.setattr(kernels, "fused_kernels", lambda: fused_kernels)
    plain = _trained(tmp_path / "plain.safetensors")
    assert not calls
    fused = _trained(tmp_path / "fused.safetensors", "--fused")
    assert {"_values", "_gradients"} == set(calls)
    assert all(torch.allclose(fused[name], plain[name], rtol=1e-3, atol=1e-4) for name in plain)
    calls.clear()
    data = small_digits(100)
    job = Job("tiny", "digits", recipe=replace(FINETUNE, epochs=1), device="cpu", fused=True)
    phase = train_low_bit(job, data, models.build("tiny", num_classes=10, in_channels=1))
    assert {"_values", "_gradients"} == set(calls)
    assert all(quantizer.kernels is kernels.Kernels.BLOCKS for quantizer in quantizers(phase.model).values())
    calls.clear()
    evaluate(phase.model, data.batches("test"))
    assert not calls


def test_a_missing_compiler_shows_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise QuantizationError("fused kernels need a C++ compiler")

    monkeypatch.setattr(kernels, "fused_kernels", missing)
    result = invoke(*TRAIN, "--out", str(tmp_path / "a.safetensors"), "--fused")
    assert (
        result.exit_code == 2
        and result.output == "error: fused kernels need a C++ compiler\n"
        and not list(tmp_path.iterdir())
    )


@pytest.mark.slow
def test_training_in_little_memory_gives_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr(memory, "values", lambda *recipe: made.append(1) or kernels.values(*recipe))
    plain = _trained(tmp_path / "plain.safetensors")
    assert not made
    small = _trained(tmp_path / "small.safetensors", "--save-memory")
    assert made and all(torch.equal(small[name], plain[name]) for name in plain)
