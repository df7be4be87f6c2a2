"""QLinearConv, an accumulator and a requantization (E9), and ConvInteger, the accumulator alone.

    acc = Σ (w - z_w)·(x - Z_x) + bias
    y   = clamp(round_half_even(float32(acc)·M) + Z_y),   M = float32(float32(S_x·s_w) / S_y)

The sum is over the channels of the group and the taps of the kernel; M is one number for each output channel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .node import Array, Inputs, Node, codes, operator, optional, per_channel, required, scale_of, zero_point_of
from .numeric import accumulator_bound, check_accumulator, exact_float, requantize
from .window import Window, window

PATCH_ELEMENTS = 2**24  # of the patch matrix built at once: 64 MB in float32


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """The integer part of a convolution: weight - w_zero, x - x_zero, bias."""

    weight: Array  # (M, C / groups, *kernel), int8 or uint8
    weight_zero: Array | int  # (M,) or 0
    input_type: np.dtype[np.generic]
    input_zero: int
    bias: Array | None  # (M,) int32
    groups: int

    def bound(self) -> int:
        """The largest |accumulator| (bounds.py)."""
        flat = self.weight.reshape(self.weight.shape[0], -1)
        return accumulator_bound(flat, self.weight_zero, self.input_type, self.input_zero, self.bias)


def qlinear_convolution(node: Node, x: Inputs, input_type: np.dtype[np.generic]) -> Convolution:
    """From the inputs of QLinearConv: x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias.

    The values of x do not matter.
    """
    weight, bias = codes(node, x, 3), optional(x, 8)
    if bias is not None and (bias.dtype != np.int32 or bias.shape != weight.shape[:1]):
        raise node.error(f"bias is {bias.dtype}{list(bias.shape)}: int32[{weight.shape[0]}] is needed")
    zero = per_channel(node, x, 5, weight.shape[0])
    return Convolution(
        weight=weight,
        weight_zero=0 if zero is None else zero,
        input_type=input_type,
        input_zero=zero_point_of(node, x, 2),
        bias=bias,
        groups=_groups(node, weight),
    )


def integer_convolution(node: Node, x: Inputs, input_type: np.dtype[np.generic]) -> Convolution:
    """From the inputs of ConvInteger: x, w, x_zero, w_zero. The values of x do not matter."""
    weight = codes(node, x, 1)
    zero = per_channel(node, x, 3, weight.shape[0])
    return Convolution(
        weight=weight,
        weight_zero=0 if zero is None else zero,
        input_type=input_type,
        input_zero=zero_point_of(node, x, 2),
        bias=None,
        groups=_groups(node, weight),
    )


def _groups(node: Node, weight: Array) -> int:
    groups = int(node.attributes.get("group", 1))
    if weight.shape[0] % groups:
        raise node.error(f"{weight.shape[0]} output channels do not divide into {groups} groups")
    return groups


@operator("QLinearConv")
def qlinear_conv(node: Node, x: Inputs) -> list[Array]:
    """The requantization (E9) of the accumulator. Pads hold Z_x: they add nothing."""
    values, y_zero = codes(node, x, 0), required(node, x, 7)
    conv = qlinear_convolution(node, x, values.dtype)
    weight_scale = per_channel(node, x, 4, conv.weight.shape[0])
    if weight_scale is None or weight_scale.dtype != np.float32:
        raise node.error("its weight needs a float32 scale")
    multiplier = scale_of(node, x, 1) * weight_scale / scale_of(node, x, 6)  # (M,) float32, in this order
    per_row = multiplier.reshape(-1, *[1] * (values.ndim - 1))
    zero = int(y_zero.reshape(())[()])
    return [batch_first([requantize(part, per_row, zero, y_zero.dtype) for part in accumulate(node, values, conv)])]


@operator("ConvInteger")
def conv_integer(node: Node, x: Inputs) -> list[Array]:
    """The accumulator itself, int32."""
    values = codes(node, x, 0)
    parts = accumulate(node, values, integer_convolution(node, x, values.dtype))
    return [batch_first([part.astype(np.int32) for part in parts])]


def batch_first(parts: list[Array]) -> Array:
    """Parts of the batch, each (M, n, *output), as one tensor (N, M, *output)."""
    return np.ascontiguousarray(np.concatenate(parts, axis=1).swapaxes(0, 1))


def accumulate(node: Node, values: Array, conv: Convolution) -> list[Array]:
    """Exact accumulators with bias, in parts of the batch: each (M, n, *output).

    values: codes (N, C, *size). The accumulators are integers in a float type (exact_float).
    """
    number = exact_float(check_accumulator(node, conv.bound()))
    channels, groups = conv.weight.shape[0], conv.groups
    if values.ndim < 3 or values.shape[1] != conv.weight.shape[1] * groups:
        raise node.error(
            f"input of shape {list(values.shape)} does not fit a weight of shape {list(conv.weight.shape)} in {groups} "
            "groups"
        )
    geometry = window(node, values, tuple(conv.weight.shape[2:]))
    zero = np.asarray(conv.weight_zero, np.int32).reshape(-1, *[1] * (conv.weight.ndim - 1))
    matrix = (conv.weight.astype(np.int32) - zero).astype(number).reshape(groups, channels // groups, -1)
    patch = matrix.shape[2] * groups * int(np.prod(geometry.output))
    step = max(1, PATCH_ELEMENTS // max(1, patch))
    parts = []
    for start in range(0, max(1, values.shape[0]), step):
        columns = patches(values[start : start + step], conv.input_zero, geometry, groups, number)
        total = (matrix @ columns).reshape(channels, -1, *geometry.output)
        if conv.bias is not None:
            total += conv.bias.astype(number).reshape(-1, *[1] * (total.ndim - 1))
        parts.append(total)
    return parts


def patches(
    values: Array, zero: int, geometry: Window, groups: int, number: type[np.float32] | type[np.float64]
) -> Array:
    """x - Z_x under every tap of every window, 0 in the pads: (groups, C / groups * taps, N * outputs)."""
    batch, channels = values.shape[:2]
    taps = int(np.prod(geometry.kernel))
    if taps == 1 and geometry.padded == geometry.size:  # every element once, as it is
        (meets,) = geometry.taps()
        met: Array = np.subtract(values.swapaxes(0, 1)[meets], zero, dtype=number)
        return met.reshape(groups, channels // groups, -1)
    padded = np.zeros((channels, batch, *geometry.padded), number)
    np.subtract(values.swapaxes(0, 1), zero, out=padded[geometry.inside], dtype=number)
    columns = np.empty((channels, taps, batch, *geometry.output), number)
    for i, meets in enumerate(geometry.taps()):
        columns[:, i] = padded[meets]
    return columns.reshape(groups, channels // groups * taps, -1)
