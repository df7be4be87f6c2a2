"""Operators that move codes equal ONNX Runtime to the bit, with graph optimization on and off."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from calib.errors import QuantizationError
from lsq_export.integer import run
from support.integer_reference import U8, F, codes, same
from support.single_node import build, node

MOVES: dict[str, tuple[str, list[Any], dict[str, Any]]] = {
    "Reshape": ("Reshape", [np.array([2, -1])], {}),
    "Flatten": ("Flatten", [], {"axis": 2}),
    "Transpose": ("Transpose", [], {"perm": [0, 2, 3, 1]}),
    "Clip": ("Clip", [U8(3), U8(15)], {}),
    "Clip from above": ("Clip", [None, U8(15)], {}),
    "Pad": ("Pad", [np.array([0, 0, 1, 2, 0, 0, 3, 0]), U8(7)], {}),
    "Pad of channels": ("Pad", [np.array([0, 2, -1, 0, 0, 1, 0, 0]), U8(7)], {}),
    "Pad reflect": ("Pad", [np.array([0, 0, 1, 2, 0, 0, 3, 0])], {"mode": "reflect"}),
    "Pad edge": ("Pad", [np.array([0, 0, 1, 2, 0, 0, 3, 0])], {"mode": "edge"}),
    "DepthToSpace": ("DepthToSpace", [], {"blocksize": 2, "mode": "CRD"}),
    "Flip": ("Slice", [np.array([-1]), np.array([np.iinfo(np.int64).min]), np.array([3]), np.array([-1])], {}),
    "Gather one": ("Gather", [np.array(1)], {"axis": 1}),
    "Slice": ("Slice", [np.array([1, 0]), np.array([3, 4]), np.array([1, 3]), np.array([1, 2])], {}),
    "Squeeze": ("Squeeze", [np.array([0])], {}),
    "Unsqueeze": ("Unsqueeze", [np.array([1, 3])], {}),
    "Identity": ("Identity", [], {}),
    "Gather": ("Gather", [np.array([2, 0])], {"axis": 1}),
}


@pytest.mark.parametrize("name", MOVES)
def test_moves(name: str) -> None:
    op, constants, attributes = MOVES[name]
    x = codes(np.random.default_rng(17), (1 if name == "Squeeze" else 2, 4, 5, 6))
    same(node(op, {"x": x}, constants, **attributes), {"x": x})


@pytest.mark.parametrize("scale", [(2, 2), (3, 1), (1.5, 2.5), (13 / 5, 17 / 6), (0.5, 0.75), (7 / 5, 11 / 6)])
def test_resize(scale: tuple[float, float]) -> None:
    x = {"x": codes(np.random.default_rng(25), (2, 3, 5, 6))}
    constants = [None, np.array([1, 1, *scale], F)]
    how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    same(node("Resize", x, constants, **how), x)
    with pytest.raises(QuantizationError, match=r"Resize by nearest, half_pixel, floor is not supported"):
        run(node("Resize", x, constants, **{**how, "coordinate_transformation_mode": "half_pixel"}), x)


def test_split_concat_and_int32_add() -> None:
    rng = np.random.default_rng(18)
    x = {"x": codes(rng, (2, 6, 5))}
    nodes = [
        onnx.helper.make_node("Split", ["x", "parts"], ["p", "q"], axis=1),
        onnx.helper.make_node("Concat", ["q", "p", "q"], ["y"], axis=1),
    ]
    same(build(nodes, x, {"p": U8, "q": U8, "y": U8}, {"parts": np.array([2, 4])}), x, ("p", "q", "y"))
    pair = {
        "a": rng.integers(-(2**30), 2**30, (3, 4)).astype(np.int32),
        "b": rng.integers(-(2**30), 2**30, 4).astype(np.int32),
    }
    same(node("Add", pair, [], np.int32), pair)
