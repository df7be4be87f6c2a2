"""The grids of a graph: each use of a quantized tensor, with its scale, zero point and role."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx

from lsq_export.inspection.onnx_read import attribute, operands

from .scope import MOVES, Scope, input_name

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")  # operators with weights, at the second input
ROLES = ("activation", "weight", "bias")
THROUGH = MOVES | {"QuantizeLinear", "DequantizeLinear", "Clip", "Cast"}  # a stored tensor stays one behind these
DEPTH = 8  # operators between a stored tensor and its layer


@dataclass(frozen=True)
class GridUse:
    """A quantized tensor at a node.

    role: "weight" (stored, of a layer), "bias" (INT32, or at the third input of a layer), or "activation": computed, or
    a constant beside what is computed. is_input: the quantized input of the network.
    """

    scope: Scope
    node: onnx.NodeProto
    tensor: str
    scale: str
    zero_point: str
    role: str
    is_input: bool = False

    @property
    def type(self) -> str | None:
        """The ONNX name of the type of its codes."""
        return self.scope.type(self.tensor) or (self.scope.type(self.zero_point) if self.zero_point else None)

    def scales(self) -> np.ndarray | None:
        """float64, flat; None where it is computed or left out."""
        array = self.scope.array(self.scale) if self.scale else None
        return None if array is None else array.astype(np.float64).reshape(-1)

    def zero_points(self) -> np.ndarray | None:
        """int64, flat; None where it is computed. One that is left out is 0."""
        if not self.zero_point:
            return np.zeros(1, np.int64)
        array = self.scope.array(self.zero_point)
        return None if array is None else array.astype(np.float64).astype(np.int64).reshape(-1)


def grids(scope: Scope) -> Iterator[GridUse]:
    """All uses, in the order of the nodes."""
    for node in scope.nodes:
        if not node.output:
            continue
        for use in operands(node):
            if not use.tensor:
                continue
            tensor, source = use.tensor, input_name(node, 0) if use.is_output else use.tensor
            role = "bias" if use.is_bias else _role(scope, node, tensor, source)
            entry = node.op_type == "QuantizeLinear" and source in scope.inputs and scope.outer is None
            yield GridUse(scope, node, tensor, use.scale, use.zero_point, role, entry)


def weight_of(scope: Scope, layer: onnx.NodeProto) -> onnx.NodeProto | None:
    """The DequantizeLinear that makes the weight of a layer, also through operators that move codes."""
    return _dequantize(scope, input_name(layer, 1))


def source_of(scope: Scope, layer: onnx.NodeProto) -> onnx.NodeProto | None:
    """The DequantizeLinear that makes the input of a layer, also through operators that move values."""
    return _dequantize(scope, input_name(layer, 0))


def is_constant(scope: Scope, name: str) -> bool:
    """Stored, perhaps quantized or moved on the way; nothing of it depends on an input."""
    for _ in range(len(scope.nodes) + 1):
        if scope.constant(name) is not None:
            return True
        node = scope.producer(name)
        if node is None or node.op_type not in THROUGH:
            return False
        name = input_name(node, 0)
    return False


def codes_of(scope: Scope, dequantize: onnx.NodeProto) -> np.ndarray | None:
    """The stored codes that it reads, integers, also of a float weight that QuantizeLinear rounds; None: computed."""
    name = input_name(dequantize, 0)
    array = scope.array(name)
    if array is not None:
        return array if array.dtype in (np.int8, np.uint8) else array.astype(np.float64).astype(np.int64)
    for _ in range(DEPTH):
        node = scope.producer(name)
        if node is None or node.op_type not in ("Clip", "QuantizeLinear"):
            return None
        if node.op_type == "QuantizeLinear":
            return _rounded(scope, node)
        name = input_name(node, 0)
    return None


def _rounded(scope: Scope, quantize: onnx.NodeProto) -> np.ndarray | None:
    """What QuantizeLinear makes of a stored float tensor in INT8."""
    values, scale = (scope.array(input_name(quantize, place)) for place in (0, 1))
    zero = scope.array(input_name(quantize, 2))
    if values is None or scale is None or not np.all(scale):
        return None
    axis = int(attribute(quantize, "axis", 1))
    if scale.size > 1 and not (-values.ndim <= axis < values.ndim and scale.size == values.shape[axis]):
        return None
    shape = [1] * values.ndim
    if scale.size > 1:
        shape[axis] = scale.size
    steps = values.astype(np.float64) / scale.astype(np.float64).reshape(shape if scale.size > 1 else ())
    offset = 0 if zero is None or zero.size != 1 else int(zero.reshape(-1)[0])
    rounded: np.ndarray = np.clip(np.rint(np.nan_to_num(steps)) + offset, -128, 127).astype(np.int64)
    return rounded


def _dequantize(scope: Scope, name: str) -> onnx.NodeProto | None:
    for _ in range(len(scope.nodes) + 1):
        node = scope.producer(name)
        if node is None or node.op_type == "DequantizeLinear":
            return node
        if node.op_type not in MOVES:
            return None
        name = input_name(node, 0)
    return None


def _role(scope: Scope, node: onnx.NodeProto, tensor: str, source: str) -> str:
    if not is_constant(scope, source):
        return "activation"
    if scope.type(tensor) == "INT32":
        return "bias"
    if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
        return "weight"
    places = set(_layer_places(scope, node.output[0], DEPTH))
    return "bias" if places == {2} else "weight" if places else "activation"


def _layer_places(scope: Scope, name: str, depth: int) -> Iterator[int]:
    """At which inputs layers read a stored tensor, also quantized, limited or moved on the way."""
    for reader in scope.readers(name) if depth else ():
        if reader.op_type in LAYERS:
            yield list(reader.input).index(name)
        elif reader.op_type in THROUGH and reader.output:
            yield from _layer_places(scope, reader.output[0], depth - 1)
