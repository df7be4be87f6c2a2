"""QuantizeLinear and DequantizeLinear, the two ends of the integer graph: the ONNX grid (E2).

    c = clamp(round_half_even(x / S) + Z)
    x = (c - Z)·S

All arithmetic is in float32.
"""

from __future__ import annotations

import numpy as np

from calib.grid import dequantize_linear, quantize_linear

from .node import Array, Inputs, Node, operator, optional, required


def _along_axis(node: Node, value: Array, x: Array) -> Array:
    """Scale or zero point in a shape that broadcasts against x: one for all, or one for each slice of `axis`."""
    if value.size == 1:
        return value.reshape(())
    axis = int(node.attributes.get("axis", 1))
    if value.ndim != 1 or value.size != x.shape[axis] or node.attributes.get("block_size", 0):
        raise node.error(
            f"scale of shape {list(value.shape)} for a tensor of shape {list(x.shape)} on axis {axis}: use per tensor "
            "or per axis"
        )
    shape = [1] * x.ndim
    shape[axis] = value.size
    return value.reshape(shape)


@operator("QuantizeLinear")
def quantize(node: Node, x: Inputs) -> list[Array]:
    """Values -> codes of the ONNX grid (E2): round half to even of x / scale, + zero point, saturated."""
    values, scale, zero = required(node, x, 0), required(node, x, 1), optional(x, 2)
    if values.dtype != np.float32 or scale.dtype != np.float32:
        raise node.error(f"input is {values.dtype} with a scale of {scale.dtype}: float32 is supported")
    if np.isnan(values).any():
        raise node.error(f"{node.inputs[0]} holds NaN, which has no code")
    dtype = zero.dtype if zero is not None else np.dtype(np.uint8)
    if dtype not in (np.uint8, np.int8):
        raise node.error(f"output type {dtype}: uint8 and int8 are supported")
    shift = np.float32(0) if zero is None else _along_axis(node, zero, values).astype(np.float32)
    info = np.iinfo(dtype)
    rounded = quantize_linear(values, _along_axis(node, scale, values), shift, info.min, info.max)
    return [np.asarray(rounded).astype(dtype)]


@operator("DequantizeLinear")
def dequantize(node: Node, x: Inputs) -> list[Array]:
    """Codes -> values of the ONNX grid (E2): (code - zero point) * scale.

    An int32 code is rounded to float32 first, as ONNX Runtime does it.
    """
    values, scale, zero = required(node, x, 0), required(node, x, 1), optional(x, 2)
    if values.dtype not in (np.uint8, np.int8, np.int32) or scale.dtype != np.float32:
        raise node.error(
            f"input is {values.dtype} with a scale of {scale.dtype}: uint8, int8 or int32 with float32 are supported"
        )
    if values.dtype == np.int32 and zero is not None and zero.any():
        raise node.error("an int32 input with a zero point other than 0 is not supported")
    shift = np.float32(0) if zero is None else _along_axis(node, zero, values).astype(np.float32)
    real = dequantize_linear(values.astype(np.float32), _along_axis(node, scale, values), shift)
    return [np.asarray(real, np.float32)]
