"""Average pools that torch's exporter writes otherwise than torch computes them, or with indices.

    avg_pool(x, divisor_override=d)         =>  Mul(AveragePool(Pad(x)), k·k / d)       the exporter leaves d out
    adaptive_avg_pool(x), sizes that divide =>  AveragePool(x)
    adaptive_avg_pool(x), any others        =>  MatMul(x, A)    A [in, out] has 1 / count where an element counts
    adaptive_max_pool(x)                    =>  Concat(ReduceMax(Slice(x)), …), one axis after the other

For fixed sizes of the input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx
import torch
from onnxscript import opset18 as op

AVERAGES = (torch.ops.aten.avg_pool1d.default, torch.ops.aten.avg_pool2d.default, torch.ops.aten.avg_pool3d.default)
ADAPTIVE = (
    torch.ops.aten.adaptive_avg_pool1d.default,
    torch.ops.aten._adaptive_avg_pool2d.default,
    torch.ops.aten._adaptive_avg_pool3d.default,
)
COMPOSED = (torch.ops.aten.adaptive_avg_pool2d.default, torch.ops.aten.adaptive_avg_pool3d.default)
MAXIMA = (torch.ops.aten.adaptive_max_pool2d.default, torch.ops.aten.adaptive_max_pool3d.default)
AT_ONCE = 1 << 16  # elements at most of a matrix for all axes together


def pool_translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """{operator of torch: what the exporter makes of it}"""
    found: dict[Callable[..., Any], Callable[..., Any]] = {}
    for index, (average, adaptive) in enumerate(zip(AVERAGES, ADAPTIVE, strict=True)):
        found[average], found[adaptive] = _average(index + 1), adaptive_average
    found |= dict.fromkeys(COMPOSED, adaptive_average)
    return {**found, **dict.fromkeys(MAXIMA, adaptive_maximum)}


def _average(spatial: int) -> Callable[..., Any]:
    def average_pool(
        self: Any,
        kernel_size: Sequence[int],
        stride: Sequence[int] = (),
        padding: Sequence[int] = (0,),
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Any:
        kernel, pads = _each(kernel_size, spatial), _each(padding, spatial)
        strides = _each(stride or kernel, spatial)
        if divisor_override is None:
            return op.AveragePool(
                self,
                kernel_shape=kernel,
                strides=strides,
                pads=pads * 2,
                ceil_mode=int(ceil_mode),
                count_include_pad=int(count_include_pad),
            )
        beyond = pads
        if ceil_mode:
            sizes = [int(size) for size in self.shape[2:]]
            beyond = [_beyond(*axis) for axis in zip(sizes, kernel, strides, pads, strict=True)]
        whole: Any = op.Constant(value_ints=[0, 0, *pads, 0, 0, *beyond])
        y = op.AveragePool(op.Pad(self, whole), kernel_shape=kernel, strides=strides)
        return op.Mul(y, op.Constant(value_float=prod(kernel) / divisor_override))

    return average_pool


def _each(given: Sequence[int], spatial: int) -> list[int]:
    return [int(number) for number in given] * (spatial if len(given) == 1 else 1)


def _beyond(size: int, kernel: int, stride: int, pad: int) -> int:
    """The padding at the end with which the last window, which begins in the input or before it, is whole."""
    last = min(-(-(size + 2 * pad - kernel) // stride), (size + pad - 1) // stride) * stride
    return max(0, last + kernel - size - pad)


def adaptive_average(self: Any, output_size: Sequence[int]) -> Any:
    """What the exporter makes of adaptive average pools of one to three axes."""
    sizes, wanted = [int(size) for size in self.shape[2:]], [int(size) for size in output_size]
    if set(wanted) == {1}:
        axes: Any = op.Constant(value_ints=list(range(2, 2 + len(wanted))))
        return op.ReduceMean(self, axes, keepdims=1)
    if all(size % new == 0 for size, new in zip(sizes, wanted, strict=True)):
        window = [size // new for size, new in zip(sizes, wanted, strict=True)]
        return op.AveragePool(self, kernel_shape=window, strides=window)
    lead = [0, 0]  # as they are
    if prod(sizes) * prod(wanted) <= AT_ONCE:
        whole = averages(sizes[0], wanted[0])
        for size, new in zip(sizes[1:], wanted[1:], strict=True):
            whole = np.kron(whole, averages(size, new))
        shape: Any = op.Constant(value_ints=[*lead, prod(sizes)])
        result: Any = op.Constant(value_ints=[*lead, *wanted])
        return op.Reshape(op.MatMul(op.Reshape(self, shape), _constant(whole)), result)
    y, last = self, len(sizes) + 1
    for axis, (size, new) in enumerate(zip(sizes, wanted, strict=True), start=2):
        order = [last if a == axis else axis if a == last else a for a in range(last + 1)]
        turned = y if axis == last else op.Transpose(y, perm=order)
        y = op.MatMul(turned, _constant(averages(size, new)))
        y = y if axis == last else op.Transpose(y, perm=order)
    return y


def averages(size: int, new: int) -> np.ndarray:
    """float32 [size, new]: 1 / count where element i counts for j."""
    matrix = np.zeros((size, new), np.float32)
    for j in range(new):
        first, end = _part(j, size, new)
        matrix[first:end, j] = 1 / (end - first)
    return matrix


def _constant(array: np.ndarray) -> Any:
    return op.Constant(value=onnx.numpy_helper.from_array(array.astype(np.float32)))


def adaptive_maximum(self: Any, output_size: Sequence[int]) -> Any:
    """What the exporter makes of adaptive max pools: the maxima of parts, put together, where sizes do not divide."""
    y: Any = self
    for axis, (size, new) in enumerate(zip(self.shape[2:], output_size, strict=True), start=2):
        parts = []
        for j in range(int(new)):
            first, end = _part(j, int(size), int(new))
            start: Any = op.Constant(value_ints=[first])
            stop: Any = op.Constant(value_ints=[end])
            along: Any = op.Constant(value_ints=[axis])
            parts.append(op.ReduceMax(op.Slice(y, start, stop, along), along, keepdims=1))
        y = op.Concat(*parts, axis=axis) if len(parts) > 1 else parts[0]
    return y, y


def _part(j: int, size: int, new: int) -> tuple[int, int]:
    """Which elements count for element j of an adaptive pool. Source: torch.nn.AdaptiveAvgPool1d."""
    return j * size // new, -(-(j + 1) * size // new)
