"""The trained network in float64 numpy, from its parameters alone. Imports neither lsq_export nor calib.

A chain of conv -> batch norm -> ReLU -> quantizer, as equations: E1 with the trained s and the real-valued β of the
*codes*, β' where a code stands
for a *value* (E5), the difference in the bias (E4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Layer:
    """One convolution [C_out, C_in, 3, 3], padded by 1, its batch norm, and the quantizer behind its ReLU."""

    weight: np.ndarray
    weight_scale: float
    qmin: int
    qmax: int
    bias: np.ndarray
    gamma: np.ndarray
    beta: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    epsilon: float
    scale: float
    offset: float
    levels: int

    def codes_of_weights(self) -> np.ndarray:
        """E1 in float32, as training divides."""
        steps = self.weight.astype(np.float32) / np.float32(self.weight_scale)
        return np.rint(steps).clip(self.qmin, self.qmax).astype(np.float64)


def convolve(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """[N, C, H, W] * [M, C, 3, 3] -> [N, M, H, W], padded by one zero."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))  # [N, C, H, W, 3, 3]
    n, c, h, width = x.shape
    columns = windows.transpose(0, 2, 3, 1, 4, 5).reshape(n * h * width, c * 9)
    return (columns @ w.reshape(len(w), -1).T).reshape(n, h, width, len(w)).transpose(0, 3, 1, 2)


def trained_codes(layer: Layer, values: np.ndarray) -> np.ndarray:
    """Codes behind one layer for values of its input: the trained network, nothing folded."""
    y = convolve(values, layer.codes_of_weights() * layer.weight_scale) + layer.bias.reshape(-1, 1, 1)
    shape = (-1, 1, 1)
    y = layer.gamma.reshape(shape) * (y - layer.mean.reshape(shape)) / np.sqrt(
        layer.variance.reshape(shape) + layer.epsilon
    ) + layer.beta.reshape(shape)
    return np.rint((np.maximum(y, 0) - layer.offset) / layer.scale).clip(0, layer.levels - 1)


def folded_numbers(layer: Layer, remainder: float) -> tuple[np.ndarray, np.ndarray]:
    """(scale [M] of the weight codes with their signs, bias [M] less β):

    what E3, E4 and E8 say the layer holds. remainder: β - β' of its input.
    """
    factor = layer.gamma / np.sqrt(layer.variance + layer.epsilon)
    sums = layer.codes_of_weights().reshape(len(factor), -1).sum(1) * layer.weight_scale
    return layer.weight_scale * factor, factor * (
        layer.bias + remainder * sums - layer.mean
    ) + layer.beta - layer.offset


def folded_codes(layer: Layer, values: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Codes behind one layer with these folded numbers, in float64. values: s·q + β' of its input."""
    y = convolve(values, layer.codes_of_weights() * scale.reshape(-1, 1, 1, 1)) + bias.reshape(-1, 1, 1) + layer.offset
    return np.rint((np.maximum(y, 0) - layer.offset) / layer.scale).clip(0, layer.levels - 1)
