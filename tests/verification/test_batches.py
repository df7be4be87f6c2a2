"""lsq_export/verification/batches.py: data that cannot be verified on is named."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import onnx_ir as ir
import pytest
import torch

import lsq_export
from calib.errors import QuantizationError
from lsq_export.verification.batches import checked_batches
from support.exported import SHAPE, Exported


@pytest.mark.parametrize(
    ("batches", "says"),
    [
        ([], "the batches are empty"),
        (None, "batches is NoneType: give an iterable"),
        (torch.zeros(2, *SHAPE), "batches is a tensor: give an iterable of batches"),
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


def graph() -> ir.Graph:
    x = ir.val("x", shape=["N", 1, 2], dtype=ir.DataType.FLOAT)
    return ir.Graph([x], [], nodes=[])


def test_batches_are_float32_inputs_with_their_classes() -> None:
    x = torch.ones(2, 1, 2, dtype=torch.float64, requires_grad=True)
    (a, no_classes), (b, classes), (c, _) = checked_batches([x, (x, [1, 0]), [x]], graph())
    assert {t.dtype for t in (a, b, c)} == {torch.float32} and not a.requires_grad
    assert no_classes is None and classes is not None and classes.tolist() == [1, 0]


def test_batches_are_taken_one_by_one() -> None:
    taken: list[int] = []

    def batches() -> Iterator[torch.Tensor]:
        for index in range(3):
            taken.append(index)
            yield torch.zeros(1, 1, 2)

    next(checked_batches(batches(), graph()))
    assert taken == [0]


def test_batches_of_another_form_are_verified_like_pairs(exported: Exported) -> None:
    dicts = [{"image": x, "labels": y} for x, y in exported.batches]
    taken = lsq_export.verify(None, exported.bundle, dicts, input_key="image")
    assert taken.to_dict() == lsq_export.verify(None, exported.bundle, exported.batches).to_dict()
    assert taken.trained_accuracy is not None


def test_targets_that_are_no_classes_are_left_out() -> None:
    x = torch.zeros(2, 1, 2)
    for target in ([{"boxes": 1}, {"boxes": 2}], {"boxes": x}, ["a", "b"], [[1], [1, 2]], 3):
        ((_, classes),) = checked_batches([(x, target)], graph())
        assert classes is None
    ((_, classes),) = checked_batches([(x, torch.zeros(2, 5))], graph())
    assert classes is not None and classes.shape == (2, 5)
