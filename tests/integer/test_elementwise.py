"""QLinearAdd and QLinearMul equal ONNX Runtime to the bit, on all 65,536 pairs of codes."""

from __future__ import annotations

import numpy as np
import pytest

from lsq_export.integer import run
from support.integer_reference import EVERY, PAIRS, F, codes, grids, same
from support.single_node import MICROSOFT, node, onnx_runtime


@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
def test_binary_on_all_pairs(op: str) -> None:
    rng = np.random.default_rng(9)
    for i in range(30):
        (sa, za), (sb, zb), (sy, zy) = grids(rng, i)
        sy = sy * F(30) if op == "QLinearMul" and i % 3 else sy
        model = node(op, PAIRS, [sa, za, sb, zb, sy, zy], domain=MICROSOFT, order="iccicccc")
        same(model, PAIRS)


@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
def test_binary_with_signed_codes(op: str) -> None:
    pairs = {name: value.view(np.int8) for name, value in PAIRS.items()}
    constants = [F(0.031), np.int8(-9), F(0.17), np.int8(30), F(0.21), np.int8(-17)]
    same(node(op, pairs, constants, np.int8, domain=MICROSOFT, order="iccicccc"), pairs)


SHAPES = [
    ((2, 3, 4, 5), ()),
    ((), (7,)),
    ((1,), (1,)),
    ((4, 1), (1,)),
    ((4, 1), ()),
    ((1,), (4, 1)),
    ((2, 3, 4, 5), (1,)),
    ((1, 1), (6, 5)),
]
SHAPES += [
    ((2, 6, 4, 5), (6, 1, 1)),
    ((6, 1, 1), (2, 6, 4, 5)),
    ((2, 3, 4, 5), (5,)),
    ((4, 1, 5), (3, 1)),
    ((3, 1), (4, 1, 5)),
    ((8, 1, 1), (8, 1, 1)),
]


@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
def test_binary_broadcasts_like_onnx_runtime(op: str) -> None:
    """Every pair of shapes 40 times: a broadcast first operand changes the order of QLinearAdd's arithmetic."""
    rng = np.random.default_rng(10)
    for i in range(40):
        (sa, za), (sb, zb), (sy, zy) = grids(rng, i)
        for shapes in SHAPES:
            inputs = {name: codes(rng, shape) for name, shape in zip("ab", shapes, strict=True)}
            model = node(op, inputs, [sa, za, sb, zb, sy, zy], domain=MICROSOFT, order="iccicccc")
            ours = run(model, inputs)["y"]
            assert np.array_equal(ours, onnx_runtime(model, inputs, "plain")["y"]), shapes


def test_a_broadcast_first_operand_swaps_the_order_of_the_sum() -> None:
    """All 65,536 pairs, the first operand constant within a row."""
    rng = np.random.default_rng(11)
    for i in range(12):
        (sa, za), (sb, zb), (sy, zy) = grids(rng, i)
        for inputs in ({"a": EVERY[:, None], "b": PAIRS["b"]}, {"a": PAIRS["b"], "b": EVERY[:, None]}):
            same(node("QLinearAdd", inputs, [sa, za, sb, zb, sy, zy], domain=MICROSOFT, order="iccicccc"), inputs)
