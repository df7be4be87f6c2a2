"""lsq_export/verification/batches.py: data that cannot be verified on is named."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import lsq_export
from calib.errors import QuantizationError
from support.exported import SHAPE, Exported


@pytest.mark.parametrize(
    ("batches", "says"),
    [
        ([], "the batches are empty"),
        (None, "batches is NoneType: give an iterable"),
        (torch.zeros(2, *SHAPE), "batches is Tensor: give an iterable"),
        (["x"], "is str: give tensors"),
        ([torch.zeros(2, 1, 9, 9)], r"batch 0 has inputs of shape \[1, 9, 9\]: the bundle takes .* \[1, 16, 16\]"),
        ([torch.zeros(2, *SHAPE), torch.zeros(2, 16, 16)], r"batch 1 has inputs of shape \[16, 16\]"),
        ([torch.full((1, *SHAPE), math.nan)], "batch 0 holds NaN or infinity"),
        ([torch.zeros(1, *SHAPE), torch.zeros(0, *SHAPE)], "batch 1 is empty: leave it out"),
    ],
)
def test_bad_batches_are_named(batches: Any, says: str, exported: Exported) -> None:
    with pytest.raises(QuantizationError, match=says):
        lsq_export.verify(None, exported.bundle, batches)
