"""Operators that ONNX Runtime runs as tables of 256 entries: QLinearLeakyRelu, QLinearSigmoid, QLinearConcat.

    y = clamp(round_half_even(f(S_x·(x - Z_x)) / S_y) + Z_y),   f in float32

With f(v) = v the table spreads codes (E5); with another f it is that function of a quantized tensor (E10).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from calib.grid import dequantize_linear, quantize_linear
from calib.words import counted

from .node import MICROSOFT, Array, Inputs, Node, codes, operator, required, scale_of, zero_point_of
from .numeric import fma32

# The rational approximation of the logistic function, x * P(x^2) / Q(x^2) + 1/2 on [-18, 18], that ONNX Runtime shares
# with Eigen.
LOGISTIC_P = (
    4.37031012579801e-11,
    1.15627324459942e-07,
    6.08574864600143e-05,
    8.51377133304701e-03,
    2.48287947061529e-01,
)
LOGISTIC_Q = (
    6.10247389755681e-13,
    5.76102136993427e-09,
    6.29106785017040e-06,
    1.70198817374094e-03,
    1.16817656904453e-01,
    9.93151921023180e-01,
)


def _table(
    dtype: np.dtype[np.integer[Any]],
    grid: tuple[np.float32, int],
    function: Callable[[Array], Array],
    out: tuple[np.float32, int],
) -> Array:
    """Codes of function(x) for the 256 codes of x, ordered by their bytes.

    grid, out: (scale, zero point) of x and of the result, on the ONNX grid (E2); all arithmetic is in float32.
    """
    info = np.iinfo(dtype)
    every = np.arange(256, dtype=np.uint8).view(dtype).astype(np.float32)
    values = function(dequantize_linear(every, grid[0], np.float32(grid[1])))
    return np.asarray(quantize_linear(values, out[0], np.float32(out[1]), info.min, info.max)).astype(dtype)


def _apply(node: Node, x: Inputs, function: Callable[[Array], Array]) -> list[Array]:
    """Inputs x, x_scale, x_zero, y_scale, y_zero."""
    values = codes(node, x, 0)
    grid, out = (scale_of(node, x, 1), zero_point_of(node, x, 2)), (scale_of(node, x, 3), zero_point_of(node, x, 4))
    return [_table(values.dtype, grid, function, out)[values.view(np.uint8)]]


@operator(f"{MICROSOFT}.QLinearLeakyRelu")
def leaky_relu(node: Node, x: Inputs) -> list[Array]:
    """f(v) = v >= 0 ? v : alpha * v; with alpha = 1 it spreads codes (E5)."""
    alpha = np.float32(node.attributes.get("alpha", 0.01))
    return _apply(node, x, lambda v: np.where(v >= 0, v, alpha * v))


@operator(f"{MICROSOFT}.QLinearSigmoid")
def sigmoid(node: Node, x: Inputs) -> list[Array]:
    """f is ONNX Runtime's own float32 logistic function."""
    return _apply(node, x, logistic)


def logistic(v: Array) -> Array:
    """max(0, x * P(x^2) / Q(x^2) + 0.5), x clamped to [-18, 18]; Horner with fused multiply-adds (mlas logistic)."""
    v = v.clip(np.float32(-18), np.float32(18))
    square = v * v
    p, q = np.float32(LOGISTIC_P[0]), np.float32(LOGISTIC_Q[0])
    for coefficient in LOGISTIC_P[1:]:
        p = fma32(p, square, np.float32(coefficient))
    for coefficient in LOGISTIC_Q[1:]:
        q = fma32(q, square, np.float32(coefficient))
    values: Array = np.maximum(np.float32(0), v * p / q + np.float32(0.5))
    return values


@operator(f"{MICROSOFT}.QLinearConcat")
def concat(node: Node, x: Inputs) -> list[Array]:
    """f(v) = v for each part; a part that has the grid of the output is copied.

    Inputs: y_scale, y_zero, then (x, scale, zero) of each part.
    """
    if len(x) < 5 or (len(x) - 2) % 3:
        raise node.error(f"it has {counted(len(x), 'input')}: y_scale, y_zero and three for each part are needed")
    out = (scale_of(node, x, 0), zero_point_of(node, x, 1))
    dtype = required(node, x, 1).dtype
    parts = []
    for i in range(2, len(x), 3):
        values, grid = codes(node, x, i), (scale_of(node, x, i + 1), zero_point_of(node, x, i + 2))
        if values.dtype != dtype:
            raise node.error(f"{node.inputs[i]} is {values.dtype}, the output {dtype}: one type is needed")
        parts.append(values if grid == out else _table(dtype, grid, lambda v: v, out)[values.view(np.uint8)])
    return [np.concatenate(parts, axis=int(node.attributes["axis"]))]
