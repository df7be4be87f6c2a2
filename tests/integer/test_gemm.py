"""QGemm, QLinearMatMul and MatMulInteger equal ONNX Runtime to the bit, with graph optimization on and off."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lsq_export.integer import accumulator_bounds
from support import oracle
from support.integer_reference import U8, F, codes, grids, same
from support.old_runtime import wrong_with_amx
from support.single_node import MICROSOFT, node


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_matmul_integer(dtype: Any) -> None:
    rng = np.random.default_rng(5)
    a, b = codes(rng, (7, 50)), codes(rng, (50, 9), dtype, *((-64, 64) if dtype == np.int8 else (0, 255)))
    zero = codes(rng, (9,), dtype, 0, 20)
    model = node("MatMulInteger", {"a": a}, [b, U8(30), zero], np.int32)
    assert np.array_equal(same(model, {"a": a})["y"], oracle.product(a, b, 30, list(zero)))
    assert accumulator_bounds(model)["node"] == (np.abs(b.astype(int) - zero).sum(axis=0) * 225).max()
    same(node("MatMulInteger", {"a": a}, [b], np.int32), {"a": a})
    stack = codes(rng, (3, 2, 7, 50))
    same(node("MatMulInteger", {"a": stack}, [b, U8(30), zero], np.int32), {"a": stack})


@wrong_with_amx
@pytest.mark.parametrize("output", ["uint8", "float32"])
@pytest.mark.parametrize("channelwise", [False, True])
@pytest.mark.parametrize("transposed", [0, 1])
def test_qgemm(transposed: int, channelwise: bool, output: str) -> None:
    rng = np.random.default_rng(6)
    a, b = codes(rng, (33, 70)), codes(rng, (70, 21), np.int8, -64, 64)
    scale, zero = (
        (rng.uniform(0.01, 0.02, 21).astype(F), np.zeros(21, np.int8)) if channelwise else (F(0.0173), np.int8(3))
    )
    bias = rng.integers(-90000, 90000, 21).astype(np.int32)
    end = [F(2.3), U8(113)] if output == "uint8" else []
    constants = [F(0.031), U8(17), b.T.copy() if transposed else b, scale, zero, bias, *end]
    model = node("QGemm", {"a": a}, constants, np.dtype(output), domain=MICROSOFT, transB=transposed)
    y = same(model, {"a": a})["y"]
    multiplier = np.broadcast_to(F(0.031) * scale, (21,))
    total = oracle.product(a, b, 17, [int(np.max(zero))] * 21) + bias
    if output == "uint8":
        assert np.array_equal(y, oracle.requantize(total, multiplier / F(2.3), 113))
    else:
        assert np.array_equal(y, total.astype(F) * multiplier)
    no_bias = node(
        "QGemm", {"a": a}, [*constants[:5], None, *end], np.dtype(output), domain=MICROSOFT, transB=transposed
    )
    same(no_bias, {"a": a})


def test_qgemm_with_a_deep_accumulator() -> None:
    rng = np.random.default_rng(7)
    a, b = codes(rng, (16, 3000), low=180), codes(rng, (3000, 10), low=180)
    model = node("QGemm", {"a": a}, [F(0.03), U8(0), b, F(0.01), U8(128), None, F(200), U8(0)], domain=MICROSOFT)
    assert accumulator_bounds(model)["node"] > 2**24
    same(model, {"a": a})


def test_qlinear_matmul() -> None:
    rng = np.random.default_rng(8)
    a, b = codes(rng, (2, 9, 40)), codes(rng, (40, 11), np.int8, -64, 64)
    same(node("QLinearMatMul", {"a": a}, [F(0.03), U8(11), b, F(0.02), np.int8(0), F(0.9), U8(99)]), {"a": a})


@pytest.mark.parametrize(
    "shapes",
    [((2, 3, 9, 40), (2, 3, 40, 11)), ((9, 40), (40, 11)), ((2, 1, 9, 40), (3, 40, 5)), ((1, 5, 700), (1, 700, 6))],
)
def test_qlinear_matmul_of_activations(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    rng = np.random.default_rng(24)
    for i in range(6):
        x = {"a": codes(rng, shapes[0]), "b": codes(rng, shapes[1])}
        (sa, _), (sb, _), _ = grids(rng, i)
        za, zb = U8(120 + i), U8(140 - i)  # products of both signs, so that sums use the whole range
        total = (x["a"].astype(np.int64) - za) @ (x["b"].astype(np.int64) - zb)
        sy = F(sa * sb * np.abs(total).max() / 128)
        y = same(node("QLinearMatMul", x, [sa, za, sb, zb, sy, U8(128 - i)], order="iccicccc"), x)["y"]
        assert len(np.unique(y)) > 10
