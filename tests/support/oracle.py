"""Plain integer loops, nothing clever: what operators mean. Imports neither lsq_export nor calib."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np


def convolution(
    x: np.ndarray,
    w: np.ndarray,
    *,
    x_zero: int = 0,
    w_zero: Sequence[int] | int = 0,
    bias: Sequence[int] | None = None,
    strides: tuple[int, int] = (1, 1),
    dilations: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    groups: int = 1,
) -> np.ndarray:
    """Accumulators of a 2-d convolution in Python integers:

    x (N, C, H, W), w (M, C / groups, kh, kw) -> int64 (N, M, oh, ow).
    """
    (batch, _, height, width), (channels, depth, kh, kw) = x.shape, w.shape
    oh = (height + pads[0] + pads[2] - (kh - 1) * dilations[0] - 1) // strides[0] + 1
    ow = (width + pads[1] + pads[3] - (kw - 1) * dilations[1] - 1) // strides[1] + 1
    y = np.zeros((batch, channels, oh, ow), np.int64)
    for n, m, i, j in itertools.product(range(batch), range(channels), range(oh), range(ow)):
        zero = w_zero if isinstance(w_zero, int) else int(w_zero[m])
        total = 0 if bias is None else int(bias[m])
        first = m // (channels // groups) * depth  # the first input channel of this group
        for c, a, b in itertools.product(range(depth), range(kh), range(kw)):
            row, column = i * strides[0] + a * dilations[0] - pads[0], j * strides[1] + b * dilations[1] - pads[1]
            inside = 0 <= row < height and 0 <= column < width
            code = int(x[n, first + c, row, column]) if inside else x_zero
            total += (code - x_zero) * (int(w[m, c, a, b]) - zero)
        y[n, m, i, j] = total
    return y


def product(a: np.ndarray, b: np.ndarray, a_zero: int, b_zero: Sequence[int]) -> np.ndarray:
    """Accumulators of a matrix product in Python integers: (M, K) x (K, N) -> int64 (M, N)."""
    y = np.zeros((a.shape[0], b.shape[1]), np.int64)
    for m, n in itertools.product(range(a.shape[0]), range(b.shape[1])):
        y[m, n] = sum((int(a[m, k]) - a_zero) * (int(b[k, n]) - int(b_zero[n])) for k in range(a.shape[1]))
    return y


def requantize(
    accumulator: np.ndarray, multiplier: Sequence[float], zero: int, low: int = 0, high: int = 255
) -> np.ndarray:
    """float32(acc) * M, half to even, + zero, clipped;

    accumulator (N, M, ...), one float32 multiplier a channel (axis 1).
    """
    y = np.zeros(accumulator.shape, np.int64)
    for index in np.ndindex(accumulator.shape):
        scaled = np.float32(int(accumulator[index])) * np.float32(multiplier[index[1]])
        # Python's round is half to even, on the exact float32
        y[index] = min(max(round(float(scaled)) + zero, low), high)
    return y


def max_pool(
    x: np.ndarray, kernel: tuple[int, int], strides: tuple[int, int], pads: tuple[int, int, int, int]
) -> np.ndarray:
    """Largest code of each window: (N, C, H, W) -> (N, C, oh, ow)."""
    batch, channels, height, width = x.shape
    oh = (height + pads[0] + pads[2] - kernel[0]) // strides[0] + 1
    ow = (width + pads[1] + pads[3] - kernel[1]) // strides[1] + 1
    y = np.zeros((batch, channels, oh, ow), x.dtype)
    for n, c, i, j in np.ndindex(y.shape):
        rows = range(max(0, i * strides[0] - pads[0]), min(height, i * strides[0] - pads[0] + kernel[0]))
        columns = range(max(0, j * strides[1] - pads[1]), min(width, j * strides[1] - pads[1] + kernel[1]))
        y[n, c, i, j] = max(int(x[n, c, row, column]) for row in rows for column in columns)
    return y
