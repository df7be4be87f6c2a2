"""lsq_export/verification/trained_grid.py: codes of the file as codes of the trained grid, where that one lies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from lsq_export.graph.notes import PASSED
from lsq_export.rewrite.contract.decisions import Remainder, TensorDecision
from lsq_export.verification.trained_grid import codes_after, first_code, own_channels, trained_codes

# 4 bits on 8-bit codes: k = 11, o = 255 - 11·15 (E5)
DECISION = TensorDecision(
    name="a.input",
    kind="activation",
    codes="q",
    scale=0.5,
    offset=-1.0,
    levels=16,
    offset_carried=-1.0,
    error_steps=0.0,
    stride=11,
    origin=90,
    container_scale=0.5 / 11,
    zero_point=112,
    remainder=Remainder.NONE,
)


def test_spread_codes_come_back() -> None:
    codes = np.arange(16)
    assert trained_codes(DECISION, 90 + 11 * codes, -1.0).tolist() == codes.tolist()


def test_a_clamp_before_the_grid_leaves_out_the_lowest_codes() -> None:
    """E10: the grid begins at -1.0, and what the file holds at 0."""
    clamped = replace(DECISION, offset=0.0, levels=14)
    assert first_code(clamped, -1.0) == 2
    assert trained_codes(clamped, 90 + 11 * np.arange(14), -1.0).tolist() == list(range(2, 16))


@pytest.mark.parametrize("remainder", [Remainder.MOVED, Remainder.DROPPED])
def test_a_grid_that_moved_begins_where_the_trained_one_does(remainder: Remainder) -> None:
    assert first_code(replace(DECISION, remainder=remainder, offset=0.3), -1.0) == 0


def test_channels_of_a_merged_convolution() -> None:
    codes = np.arange(24).reshape(2, 6, 2)
    assert own_channels(codes, DECISION) is codes
    assert np.array_equal(own_channels(codes, replace(DECISION, channels=(2, 5))), codes[:, 2:5])


def node(op_type: str, name: str, *, constants: tuple[np.ndarray, ...] = (), **attributes: object) -> ir.Node:
    x = ir.val("x", shape=["N", 1, 2, 2])
    others = [ir.val(f"c{i}", const_value=ir.tensor(array)) for i, array in enumerate(constants)]
    return ir.node(op_type, [x, *others], attributes, name=name)  # type: ignore[arg-type]


def test_codes_move_with_the_operators_that_the_grid_passed() -> None:
    codes = np.array([[[[90, 101], [112, 255]]]], np.uint8)
    pool = node("MaxPool", "pool", kernel_shape=[2, 2], strides=[2, 2])
    moved = codes_after([node("Transpose", "t", perm=[0, 1, 3, 2]), pool], codes, DECISION, {})
    assert moved.dtype == np.float64 and moved.tolist() == [[[[255.0]]]]
    assert codes_after([], codes, DECISION, {}).tolist() == codes.tolist()


@pytest.mark.parametrize(("owner", "added"), [("a.input", 112.0), ("b.input", np.nan)])
def test_a_pad_adds_the_code_of_its_value_on_the_own_grid_alone(owner: str, added: float) -> None:
    codes = np.array([[[[90, 101], [112, 255]]]], np.uint8)
    pads, value = np.array([0, 0, 1, 0, 0, 0, 0, 0]), np.array(0.0, np.float32)
    pad = node("Pad", "pad", constants=(pads, value))
    PASSED.write(pad, (owner,))
    padded = codes_after([pad], codes, DECISION, {})
    assert np.array_equal(padded[0, 0], [[added, added], [90, 101], [112, 255]], equal_nan=True)
