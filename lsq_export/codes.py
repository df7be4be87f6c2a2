"""How many codes a tensor of an ONNX file really uses: low-bit codes travel in 8-bit containers.

Weights: counted. Activations: a clip, the spreading of E5 (QLinearAdd of zero, QLinearLeakyRelu, DequantizeLinear -> QuantizeLinear) or a
narrow container bounds them; what any other integer operator makes may take every code of its container.
"""

from __future__ import annotations

import math
import re

import numpy as np
import onnx

from calib.grid import dequantize_linear, quantize_linear

from .onnx_read import Constants, attribute

KEEPS_CODES = ("MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Slice", "Gather", "Dropout")


def used_codes(codes: np.ndarray, zero_point: np.ndarray | None, axis: int | None) -> tuple[int, int, int]:
    """(levels, bits, gain) of stored codes.

    bits: the width that holds the span of codes of every channel, in units of the gain, so that channels whose sign a negative
    batch norm flipped (E8) need no extra bit. The gain is the greatest common divisor of all codes, of each channel's for the bits.
    """
    if codes.size == 0:
        return 0, 1, 1
    centered = codes - _broadcast(zero_point, codes.ndim, axis)  # zero is 0
    channels = np.moveaxis(centered, axis or 0, 0).reshape(codes.shape[axis or 0], -1) if codes.ndim else centered.reshape(1, 1)
    gain = max(1, int(np.gcd.reduce(centered, axis=None)))
    gains = np.maximum(1, np.gcd.reduce(channels, axis=1)) if axis is not None else np.full(len(channels), gain)
    spans = (channels.max(axis=1) - channels.min(axis=1)) // gains
    return len(np.unique(centered)), _bits(int(spans.max()) + 1), gain


class ReachableCodes:
    """The codes that each activation can take, found by visiting the nodes in order."""

    def __init__(self, constants: Constants) -> None:
        self._constants = constants
        self._codes: dict[str, np.ndarray] = {}  # tensor -> codes, where fewer than the container's
        self._values: dict[str, np.ndarray] = {}  # output of a DequantizeLinear -> its values

    def levels_and_bits(self, tensor: str, container: str) -> tuple[int, int]:
        """Of an activation that has been visited."""
        low, high = container_range(container)
        levels = len(self._codes[tensor]) if tensor in self._codes else high - low + 1
        return levels, _bits(levels)

    @staticmethod
    def container_bits(container: str) -> int:
        """8 for UINT8, …"""
        return int(re.sub(r"\D", "", container))

    def visit(self, node: onnx.NodeProto) -> None:
        """Note what the node's output can be."""
        if not node.input:
            return
        source, target = node.input[0], node.output[0]
        if node.op_type in KEEPS_CODES and source in self._codes:
            self._codes[target] = self._codes[source]
        elif node.op_type == "Clip" and len(node.input) > 1:
            self._clip(node)
        elif node.op_type == "QLinearLeakyRelu":
            values = self._dequantized(source, *node.input[1:3])
            if values is not None:
                self._quantized(target, np.where(values < 0, attribute(node, "alpha", 0.01) * values, values), *node.input[3:5])
        elif node.op_type == "QLinearAdd":
            self._add_constant(node)
        elif node.op_type == "DequantizeLinear":
            values = self._dequantized(source, *node.input[1:3])
            if values is not None:
                self._values[target] = values
        elif node.op_type == "QuantizeLinear" and source in self._values:
            self._quantized(target, self._values[source], *node.input[1:3])

    def _clip(self, node: onnx.NodeProto) -> None:
        """Bounds that are integers make it a clip of codes."""
        bounds = [name for name in node.input[1:3] if name]
        container = next((self._constants.type(name) for name in bounds), None)
        if container is None or "INT" not in container:
            return
        low, high = container_range(container)
        codes = self._codes.get(node.input[0], np.arange(low, high + 1))
        for name, function in zip(node.input[1:3], (np.maximum, np.minimum), strict=False):
            bound = self._constants.get(name)
            codes = codes if bound is None else function(codes, bound.item())
        self._codes[node.output[0]] = np.unique(codes)

    def _add_constant(self, node: onnx.NodeProto) -> None:
        """One element of one value moves every code alike."""
        values = self._dequantized(*node.input[:3])
        code, scale, zero = (self._constants.get(name) for name in node.input[3:6])
        if values is not None and code is not None and scale is not None and zero is not None and code.size == 1:
            self._quantized(node.output[0], values + dequantize_linear(int(code.item()), scale.item(), int(zero.item())), *node.input[6:8])

    def _dequantized(self, tensor: str, scale: str, zero_point: str = "") -> np.ndarray | None:
        """Values of an activation's codes; None where the grid is not one known number or the codes are a weight's."""
        s, z, container = self._constants.get(scale), self._constants.get(zero_point), self._constants.type(zero_point)
        if s is None or z is None or container is None or s.size != 1 or self._constants.get(tensor) is not None:
            return None
        low, high = container_range(container)
        return np.asarray(dequantize_linear(self._codes.get(tensor, np.arange(low, high + 1)), s.item(), z.item()), dtype=np.float64)

    def _quantized(self, tensor: str, values: np.ndarray, scale: str, zero_point: str = "") -> None:
        s, z, container = self._constants.get(scale), self._constants.get(zero_point), self._constants.type(zero_point)
        if s is not None and z is not None and container is not None and s.size == 1:
            self._codes[tensor] = np.unique(quantize_linear(values, s.item(), z.item(), *container_range(container)))


def container_range(container: str) -> tuple[int, int]:
    """(smallest, largest) code of UINT8, INT4, …"""
    bits = ReachableCodes.container_bits(container)
    return (0, 2**bits - 1) if container.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _broadcast(zero_point: np.ndarray | None, rank: int, axis: int | None) -> np.ndarray:
    if zero_point is None:
        return np.zeros((), dtype=np.int64)
    return zero_point if zero_point.size == 1 or axis is None else zero_point.reshape([-1 if i == axis else 1 for i in range(rank)])


def _bits(levels: int) -> int:
    return max(1, math.ceil(math.log2(levels)))
