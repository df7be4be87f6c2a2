"""QLinearLeakyRelu, QLinearSigmoid and QLinearConcat equal ONNX Runtime to the bit, on all 256 codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lsq_export.integer.table import logistic
from support.integer_reference import EVERY, U8, F, codes, grids, same
from support.single_node import MICROSOFT, node, onnx_runtime


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize(
    "op",
    [
        "QLinearLeakyRelu alpha=1",
        "QLinearLeakyRelu alpha=0",
        "QLinearLeakyRelu alpha=0.1",
        "QLinearLeakyRelu alpha=-1",
        "QLinearSigmoid",
    ],
)
def test_tables_on_all_codes(op: str, dtype: Any) -> None:
    rng = np.random.default_rng(12)
    x = EVERY.view(dtype).reshape(1, 256)
    name, _, alpha = op.partition(" alpha=")
    attributes = {"alpha": float(alpha)} if alpha else {}
    for i in range(20):
        (sx, zx), (sy, zy), _ = grids(rng, i)
        constants = [sx, zx.astype(dtype), sy * F(0.01 if name == "QLinearSigmoid" else 1), zy.astype(dtype)]
        same(node(name, {"x": x}, constants, dtype, domain=MICROSOFT, **attributes), {"x": x})


def test_logistic_is_that_of_the_runtime_to_the_bit() -> None:
    """The float operator shares its kernel with the table."""
    x = np.random.default_rng(21).normal(0, 5, (1, 100_000)).astype(F)
    assert np.array_equal(logistic(x), onnx_runtime(node("Sigmoid", {"x": x}, [], F), {"x": x}, "plain")["y"])


@pytest.mark.parametrize("bits", [2, 3, 4, 5])
def test_leaky_relu_spreads_codes_and_clips(bits: int) -> None:
    """E5: c = k * q + 255 - k * p; q above p saturates to the code of p."""
    top = 2**bits - 1
    for k in range(1, 255 // top + 1):
        scale = F(0.37)
        x = EVERY.reshape(1, 256)
        y = same(
            node(
                "QLinearLeakyRelu",
                {"x": x},
                [scale, U8(0), F(scale / k), U8(255 - k * top)],
                domain=MICROSOFT,
                alpha=1.0,
            ),
            {"x": x},
        )["y"]
        assert np.array_equal(y[0], np.minimum(np.arange(256), top) * k + 255 - k * top)


def test_qlinear_concat() -> None:
    rng = np.random.default_rng(13)
    x = {"a": codes(rng, (2, 3, 5)), "b": EVERY.reshape(2, 1, 128)[:, :, :5].copy(), "c": codes(rng, (2, 4, 5))}
    constants = [F(0.04), U8(10), F(0.04), U8(10), F(0.03), U8(0), F(0.11), U8(200)]  # a: same grid, a copy
    same(node("QLinearConcat", x, constants, domain=MICROSOFT, order="cciccicci" + "cc", axis=1), x)
    full = {"a": EVERY.reshape(1, 256), "b": EVERY.reshape(1, 256)}
    for i in range(10):
        (sa, za), (sb, zb), (sy, zy) = grids(rng, i)
        same(node("QLinearConcat", full, [sy, zy, sa, za, sb, zb], domain=MICROSOFT, order="cciccicc", axis=0), full)
