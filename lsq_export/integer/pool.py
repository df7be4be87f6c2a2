"""MaxPool, QLinearAveragePool and QLinearGlobalAveragePool, whose mean is a requantization (E9) of the sum.

    QLinearGlobalAveragePool   y = clamp(round_half_even(float32(Σ (x - Z_x))·M) + Z_y),   M = S_x / (S_y·pixels)
    QLinearAveragePool         y = clamp(round_half_even(Σ S_x·(x - Z_x) / count / S_y + Z_y))

Every operation on floats rounds to float32.
"""

from __future__ import annotations

import numpy as np

from calib.grid import dequantize_linear

from .node import MICROSOFT, Array, Inputs, Node, codes, operator, scale_of, zero_point_of
from .numeric import requantize, round_int32, saturate
from .window import Window, window


def _kernel(node: Node) -> tuple[int, ...]:
    return tuple(node.attributes["kernel_shape"])


def _padded(values: Array, geometry: Window, fill: float, dtype: np.dtype[np.generic]) -> Array:
    padded = np.full((*values.shape[:2], *geometry.padded), fill, dtype)
    padded[geometry.inside] = values
    return padded


@operator("MaxPool")
def max_pool(node: Node, x: Inputs) -> list[Array]:
    """The largest code under each window; pads never win."""
    values = codes(node, x, 0)
    if len(node.outputs) > 1:
        raise node.error("its second output (Indices) is not supported")
    geometry = window(node, values, _kernel(node))
    low = int(np.iinfo(values.dtype).min)
    padded = _padded(values, geometry, low, values.dtype)
    best = np.full((*values.shape[:2], *geometry.output), low, values.dtype)
    for meets in geometry.taps():
        np.maximum(best, padded[meets], out=best)
    return [best]


@operator(f"{MICROSOFT}.QLinearGlobalAveragePool")
def global_average_pool(node: Node, x: Inputs) -> list[Array]:
    """The requantization (E9) of the sum of all pixels, M = float32(S_x / float32(S_y * pixels)) (mlas qlgavgpool)."""
    if node.attributes.get("channels_last", 0):
        raise node.error("channels_last 1 is not supported")
    return [_global(node, x)]


def _global(node: Node, x: Inputs) -> Array:
    values = codes(node, x, 0)  # (N, C, *size)
    pixels = int(np.prod(values.shape[2:]))
    total = values.reshape(*values.shape[:2], -1).sum(axis=2, dtype=np.int64) - pixels * zero_point_of(node, x, 2)
    multiplier = scale_of(node, x, 1) / (scale_of(node, x, 3) * np.float32(pixels))
    y = requantize(total, np.asarray(multiplier), zero_point_of(node, x, 4), values.dtype)
    return y.reshape(*values.shape[:2], *[1] * (values.ndim - 2))


@operator(f"{MICROSOFT}.QLinearAveragePool")
def average_pool(node: Node, x: Inputs) -> list[Array]:
    """Values summed in float32 in row-major order, / count, / S_y, + Z_y, rounded half to even, in this order.

    It is that of ONNX Runtime's qlinear_pool: Z_y is added before the rounding. A window that is the whole unpadded
    input is a global average pool, which has another formula.
    """
    if node.attributes.get("channels_last", 0):
        raise node.error("channels_last 1 is not supported")
    values = codes(node, x, 0)
    geometry = window(node, values, _kernel(node))
    if geometry.kernel == geometry.size and not any(geometry.before + geometry.after):
        return [_global(node, x)]
    real = dequantize_linear(values.astype(np.float32), scale_of(node, x, 1), np.float32(zero_point_of(node, x, 2)))
    padded = _padded(real, geometry, 0.0, np.dtype(np.float32))
    inside = _padded(np.ones((1, 1, *geometry.size), np.float32), geometry, 0.0, np.dtype(np.float32))
    total = np.zeros((*values.shape[:2], *geometry.output), np.float32)
    count = np.zeros((1, 1, *geometry.output), np.float32)
    for meets in geometry.taps():
        total += padded[meets]  # adding the 0 of a pad changes nothing
        count += inside[meets]
    if node.attributes.get("count_include_pad", 0):
        count[...] = np.prod(geometry.kernel)
    y = total / count / scale_of(node, x, 3) + np.float32(zero_point_of(node, x, 4))
    return [saturate(round_int32(node, y), values.dtype)]
