"""training.recipe: settings that cannot be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from calib.errors import QuantizationError
from lsq_export.training.fit import FINETUNE


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("optimizer", "lamb", "optimizer is 'lamb': use sgd or adam"),
        ("schedule", "step", "schedule is 'step': use cosine or one-cycle"),
        ("label_smoothing", 1.0, r"label_smoothing is 1\.0: use 0 or more, less than 1"),
        ("ema", -0.1, r"ema is -0\.1"),
        ("lr", float("nan"), "lr is nan: use more than 0"),
        ("temperature", 0.0, r"temperature is 0\.0"),
        ("distill", 1.5, r"distill is 1\.5: use 0 \(off\) to 1"),
        ("offset_lr", -1.0, r"offset_lr is -1\.0: use 0 or more"),
    ],
)
def test_a_recipe_that_cannot_be(option: str, value: Any, says: str) -> None:
    with pytest.raises(QuantizationError, match=says):
        replace(FINETUNE, **{option: value})
