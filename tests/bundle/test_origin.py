"""lsq_export/bundle/origin.py: what the user says is checked before the work begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from calib.errors import QuantizationError
from lsq_export.bundle.origin import Origin
from support.bundles import export


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"classes": "cat"}, "classes must be a list of names"),
        ({"classes": []}, "classes must be a list of names"),
        ({"classes": ["cat", 2]}, "classes must be a list of names"),
        ({"classes": ["cat", "do\ng"]}, "classes must be a list of names"),
        ({"license": ""}, "license is ''"),
        ({"license": 2}, "license is 2: give one line"),
        ({"license": "MIT\nand more"}, r"license is 'MIT\\nand more'"),
        ({"preprocessing": "divide by 255"}, "preprocessing is 'divide by 255': give a dict"),
        ({"preprocessing": {"mean": np.zeros(3)}}, "preprocessing is .*: give a dict of numbers"),
        ({"preprocessing": {"mean": float("nan")}}, "preprocessing is .*: give a dict of numbers"),
        ({"preprocessing": {"std": ["a"]}}, r"preprocessing: std\[0\] is a: it must be of the type number"),
        ({"source": {"model": nn.Linear(1, 1)}}, "source is .*: give a dict of numbers"),
    ],
)
def test_what_cannot_be_written_down_is_named(said: dict[str, Any], says: str) -> None:
    with pytest.raises(QuantizationError, match=says) as error:
        Origin(**said)
    assert "\n" not in str(error.value)


def test_names_fit_the_outputs() -> None:
    two = Origin(classes=["cat", "dog"])
    two.check_outputs([None, 2])
    two.check_outputs([None, None])
    Origin().check_outputs([None, 3, 8, 8])
    for shape, says in (([None, 3], "classes has 2 names, but .* has 3 numbers"), ([None, 2, 8, 8], "the shape ")):
        with pytest.raises(QuantizationError, match=says):
            two.check_outputs(shape)


def test_another_number_of_names_is_refused_before_the_fold(model: nn.Module, tmp_path: Path) -> None:
    stages: list[str] = []
    with pytest.raises(QuantizationError, match="classes has 2 names, but the first output of the model has 5 numbers"):
        export(model, tmp_path / "out", classes=["a", "b"], on_stage=stages.append)
    assert stages == ["capture"] and not (tmp_path / "out").exists()
