"""How many codes an activation of an ONNX file really uses: low-bit codes travel in 8-bit containers.

A clip, the end of a container, the spreading of E5 (QLinearAdd of zero, QLinearLeakyRelu, DequantizeLinear ->
QuantizeLinear) or a narrow container bounds them. Functions of one tensor of codes, x·σ(x) too, are computed for each
of these codes, sums and products of two for each pair. What a convolution or any other operator makes may take every
code of its container.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnx

from calib.grid import dequantize_linear, quantize_linear

from .codes import bits_for, container_range
from .onnx_read import Constants, attribute

Function: TypeAlias = Callable[..., np.ndarray]

KEEPS_CODES = (
    *("MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Slice", "Gather", "Dropout"),
)

UNARY: dict[str, Function] = {
    "LeakyRelu": lambda node, x: np.where(x < 0, attribute(node, "alpha", 0.01) * x, x),
    "Sigmoid": lambda node, x: 0.5 + 0.5 * np.tanh(0.5 * x),  # cannot overflow
}
BINARY: dict[str, Function] = {"Add": lambda node, x, y: x + y, "Mul": lambda node, x, y: x * y}


@dataclass(frozen=True)
class _Known:
    """What each element of a tensor of codes or of values can be.

    numbers: one for each code of the same element of the tensor `root`. between: anything from the smallest to the
    largest of these numbers.
    """

    root: str
    numbers: np.ndarray
    between: bool = False


class ReachableCodes:
    """The codes that each activation can take, found by visiting the nodes in order."""

    def __init__(self, constants: Constants) -> None:
        self._constants = constants
        self._known: dict[str, _Known] = {}

    def levels_and_bits(self, tensor: str, container: str) -> tuple[int, int]:
        """(codes that it can take, bits that they need) of an activation that has been visited."""
        low, high = container_range(container)
        levels = len(np.unique(self._known[tensor].numbers)) if tensor in self._known else high - low + 1
        return levels, bits_for(levels)

    def visit(self, node: onnx.NodeProto) -> None:
        """Note what the node's output can be."""
        if not node.input:
            return
        known = self._output_of(node, list(node.input))
        if known is not None:
            self._known[node.output[0]] = known

    def _output_of(self, node: onnx.NodeProto, names: list[str]) -> _Known | None:
        op = node.op_type
        if op in KEEPS_CODES and names[0] in self._known:  # elements change places
            return _Known(node.output[0], np.unique(self._known[names[0]].numbers))
        if op == "Clip" and len(names) > 1:
            return self._clip(names)
        if op == "DequantizeLinear":
            return self._dequantized(*names[:3])
        if op == "QuantizeLinear" and names[0] in self._known:
            return self._quantized(self._known[names[0]], *names[1:3])
        if op in UNARY:
            return self._apply(UNARY[op], node, [self._known.get(names[0])])
        if op in BINARY:
            return self._apply(BINARY[op], node, [self._float(name) for name in names[:2]])
        kernel = op.removeprefix("QLinear")
        if kernel in UNARY:
            return self._quantized(self._apply(UNARY[kernel], node, [self._dequantized(*names[:3])]), *names[3:5])
        if kernel in BINARY:
            operands = [self._dequantized(*names[:3]), self._dequantized(*names[3:6])]
            return self._quantized(self._apply(BINARY[kernel], node, operands), *names[6:8])
        if op == "GlobalAveragePool":
            return self._mean(node, self._known.get(names[0]))
        if op == "QLinearGlobalAveragePool":
            return self._quantized(self._mean(node, self._dequantized(*names[:3])), *names[3:5])
        return None

    def _mean(self, node: onnx.NodeProto, known: _Known | None) -> _Known | None:
        return None if known is None else _Known(node.output[0], known.numbers, between=True)

    def _clip(self, names: list[str]) -> _Known | None:
        """Bounds that are integers make it a clip of codes."""
        container = next((self._constants.type(name) for name in names[1:3] if name), None)
        if container is None or "INT" not in container:
            return None
        low, high = container_range(container)
        known = self._known.get(names[0], _Known(names[0], np.arange(low, high + 1)))
        numbers = known.numbers
        for name, function in zip(names[1:3], (np.maximum, np.minimum), strict=False):
            bound = self._constants.get(name)
            numbers = numbers if bound is None else function(numbers, bound.item())
        return _Known(known.root, numbers)

    def _apply(self, function: Function, node: onnx.NodeProto, operands: list[_Known | None]) -> _Known | None:
        """Operands with one root, or with none, meet element by element; of others every number meets every other."""
        known = [x for x in operands if x is not None]
        if len(known) < len(operands) or any(x.between for x in known):
            return None
        roots = {x.root for x in known} - {""}
        if len(roots) > 1:
            a, b = (np.unique(x.numbers) for x in known)
            return _Known(node.output[0], np.unique(function(node, a[:, None], b[None, :])))
        return _Known(next(iter(roots), ""), function(node, *(x.numbers for x in known)))

    def _float(self, tensor: str) -> _Known | None:
        """A computed tensor of values, or one number that is stored (of no root)."""
        stored = self._constants.get(tensor)
        if stored is None:
            return self._known.get(tensor)
        return _Known("", stored.reshape(1)) if stored.size == 1 else None

    def _dequantized(self, tensor: str, scale: str, zero_point: str = "") -> _Known | None:
        """Values of an activation's codes, or of one stored code; None where the grid is not one known number."""
        grid, stored = self._grid(scale, zero_point), self._constants.get(tensor)
        if grid is None or (stored is not None and stored.size != 1):
            return None
        s, z, (low, high) = grid
        if stored is not None:
            known = _Known("", stored.reshape(1))
        else:
            known = self._known.get(tensor, _Known(tensor, np.arange(low, high + 1)))
        return _Known(known.root, np.asarray(dequantize_linear(known.numbers, s, z), dtype=np.float64))

    def _quantized(self, values: _Known | None, scale: str, zero_point: str = "") -> _Known | None:
        """Codes of the values on a grid; None where it is not one known number."""
        grid = self._grid(scale, zero_point)
        if values is None or grid is None:
            return None
        s, z, limits = grid
        codes = np.asarray(quantize_linear(values.numbers, s, z, *limits))
        return _Known(values.root, np.arange(codes.min(), codes.max() + 1) if values.between else codes)

    def _grid(self, scale: str, zero_point: str) -> tuple[float, int, tuple[int, int]] | None:
        """(scale, zero point, codes of the container), where they are one known number each."""
        s, z, container = self._constants.get(scale), self._constants.get(zero_point), self._constants.type(zero_point)
        if s is None or z is None or container is None or s.size != 1:
            return None
        return s.item(), z.item(), container_range(container)
