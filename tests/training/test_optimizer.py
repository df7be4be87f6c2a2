"""training.optimizer: what decays, and how the rate goes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lsq_export import models
from lsq_export.qat.prepare_model import QATConfig, prepare, quantizers
from lsq_export.training.fit import FINETUNE, PRETRAIN
from lsq_export.training.optimizer import make_optimizer, rate


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_only_weights_decay(name: Any) -> None:
    tiny = models.build("tiny", num_classes=10, in_channels=1)
    model = prepare(tiny, QATConfig(weight_granularity="channel"))
    recipe = replace(FINETUNE, optimizer=name, offset_lr=0.3)
    decayed, kept, scales, offsets = groups = make_optimizer(model, recipe).param_groups
    assert [group["weight_decay"] for group in groups] == [recipe.weight_decay, 0, 0, 0]
    assert [group["lr"] for group in groups] == pytest.approx([recipe.lr, recipe.lr, 0.1 * recipe.lr, 0.3 * recipe.lr])
    names = {id(p): name for name, p in model.named_parameters()}
    assert all(names[id(p)].endswith("weight.original") for p in decayed["params"])
    assert {id(p) for p in scales["params"]} == {id(q.scale) for q in quantizers(model).values()}
    assert {id(p) for p in offsets["params"]} == {id(q.offset) for q in quantizers(model).values() if not q.symmetric}
    assert (
        sum(len(group["params"]) for group in groups) == sum(p.requires_grad for p in model.parameters())
        and kept["params"]
    )


def test_rate_warms_up_and_falls_to_zero() -> None:
    recipe = replace(PRETRAIN, epochs=8, warmup=1.0)
    assert [rate(e, recipe) for e in (0.0, 0.5, 1.0)] == [0.0, 0.5, 1.0]
    assert rate(4.5, recipe) == pytest.approx(0.5) and rate(8.0, recipe) == pytest.approx(0.0, abs=1e-12)
    assert max(rate(e / 10, replace(recipe, warmup=0.0)) for e in range(81)) == 1.0
