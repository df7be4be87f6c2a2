"""One graph of a file: who makes a tensor, who reads it, its constants and its type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from calib.errors import QuantizationError, one_line, shown
from lsq_export.inspection.onnx_read import attribute

Values = Callable[[onnx.TensorProto], onnx.TensorProto]

# Operators whose output has the type of their first input, and the same codes, moved.
MOVES = frozenset(
    {
        *("Identity", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Gather", "Expand", "Tile"),
        *("DepthToSpace", "SpaceToDepth", "Concat", "Split", "Pad", "MaxPool", "Dropout"),
    }
)
KEEPS_TYPE = MOVES | {"Clip", "Relu", "Min", "Max", "Abs", "Add", "Sub", "Mul"}
LONGEST = 10_000  # nodes that are followed back


@dataclass(frozen=True)
class Scope:
    """nodes, made_by {tensor: its node}, read_by {tensor: nodes}; constants and types of its own; outer: around it."""

    nodes: Sequence[onnx.NodeProto]
    inputs: Sequence[str]
    outputs: frozenset[str]
    made_by: dict[str, onnx.NodeProto]
    read_by: dict[str, list[onnx.NodeProto]]
    constants: dict[str, onnx.TensorProto]
    types: dict[str, str]
    outer: Scope | None
    values: Values

    @staticmethod
    def of_graph(graph: onnx.GraphProto, outer: Scope | None, values: Values) -> Scope:
        """The scope of a graph; the names of the outer one are known in it."""
        constants = {tensor.name: tensor for tensor in graph.initializer}
        known = (*graph.input, *graph.value_info, *graph.output)
        types = {v.name: type_name(v.type.tensor_type.elem_type) for v in known if v.type.HasField("tensor_type")}
        inputs = [v.name for v in graph.input if v.name not in constants]
        outputs = frozenset(v.name for v in graph.output)
        return _scope(graph.node, inputs, outputs, constants, types, outer, values)

    @staticmethod
    def of_function(function: onnx.FunctionProto, values: Values) -> Scope:
        """The body of a function."""
        return _scope(function.node, list(function.input), frozenset(function.output), {}, {}, None, values)

    def producer(self, name: str) -> onnx.NodeProto | None:
        """The node that makes a tensor."""
        if name in self.made_by or self.outer is None:
            return self.made_by.get(name)
        return self.outer.producer(name)

    def readers(self, name: str) -> list[onnx.NodeProto]:
        """The nodes of this graph that read it."""
        return self.read_by.get(name, [])

    def is_read_once(self, name: str) -> bool:
        """One node reads it, and it is no output."""
        return len(self.readers(name)) == 1 and name not in self.outputs

    def constant(self, name: str) -> onnx.TensorProto | None:
        """The constant of that name, also behind Identity; None for what is computed, or left out."""
        for _ in range(LONGEST):
            if name in self.constants:
                return self.constants[name]
            node = self.made_by.get(name)
            if node is None:
                return self.outer.constant(name) if self.outer is not None and name else None
            if node.op_type != "Identity" or not node.input:
                return None
            name = node.input[0]
        return None

    def array(self, name: str) -> np.ndarray | None:
        """The numbers of a constant; None for what is computed, or text. Errors (QuantizationError): it has none."""
        tensor = self.constant(name)
        if tensor is None or tensor.data_type == onnx.TensorProto.STRING:
            return None
        try:
            return numpy_helper.to_array(self.values(tensor))
        except QuantizationError:
            raise
        except Exception as error:  # of numpy and protobuf, for any damage
            raise QuantizationError(
                f"the constant {shown(name)} has no values that fit its type and shape ({one_line(error):.200}): "
                "export the file again"
            ) from error

    def type(self, name: str) -> str | None:
        """The ONNX name of the element type (INT8, …), as far as the file says it; None: unknown."""
        for _ in range(LONGEST):
            tensor = self.constant(name)
            if tensor is not None:
                return type_name(tensor.data_type)
            node = self.made_by.get(name)
            if node is None:
                return self.types.get(name) or (self.outer.type(name) if self.outer is not None else None)
            if node.op_type == "QuantizeLinear":
                return _quantized(self, node)
            if node.op_type == "DequantizeLinear":
                scale = self.constant(input_name(node, 1))
                return type_name(scale.data_type) if scale is not None else "FLOAT"
            if name in self.types:
                return self.types[name]
            if node.op_type not in KEEPS_TYPE or not node.input:
                return None
            name = node.input[0]
        return None


def type_name(number: int) -> str:
    """Of the element type with that number; UNDEFINED where ONNX has none."""
    known: dict[int, str] = {value: name for name, value in onnx.TensorProto.DataType.items()}
    return known.get(number, "UNDEFINED")


def input_name(node: onnx.NodeProto, index: int) -> str:
    """The name of an input; "" where it is left out."""
    return node.input[index] if index < len(node.input) else ""


def label(node: onnx.NodeProto) -> str:
    """How a finding names a node: operator and name, or its first output where it has no name."""
    name = node.name or next((name for name in node.output if name), "?")
    return f"{node.domain}.{node.op_type} {name}" if node.domain not in ("", "ai.onnx") else f"{node.op_type} {name}"


def _quantized(scope: Scope, node: onnx.NodeProto) -> str | None:
    zero_point = input_name(node, 2)
    if zero_point:
        return scope.type(zero_point) if zero_point != node.output[0] else None
    number = attribute(node, "output_dtype", 0)
    return type_name(number) if isinstance(number, int) and number else "UINT8"


def _scope(
    nodes: Sequence[onnx.NodeProto],
    inputs: list[str],
    outputs: frozenset[str],
    constants: dict[str, onnx.TensorProto],
    types: dict[str, str],
    outer: Scope | None,
    values: Values,
) -> Scope:
    made_by, read_by = {}, {}  # type: dict[str, onnx.NodeProto], dict[str, list[onnx.NodeProto]]
    constants = dict(constants)
    for node in nodes:
        for name in node.output:
            made_by[name] = node
        for name in dict.fromkeys(node.input):
            read_by.setdefault(name, []).append(node)
        value = constant_of(node) if node.op_type == "Constant" and node.output else None
        if value is not None:
            constants[node.output[0]] = value
    return Scope(nodes, inputs, outputs, made_by, read_by, constants, types, outer, values)


def constant_of(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """What a Constant holds, if it is a tensor or numbers."""
    for a in node.attribute:
        if a.name == "value" and a.HasField("t"):
            tensor: onnx.TensorProto = a.t
            return tensor
        if a.name in ("value_float", "value_floats"):
            return numpy_helper.from_array(np.array(a.floats if a.name.endswith("s") else a.f, np.float32))
        if a.name in ("value_int", "value_ints"):
            return numpy_helper.from_array(np.array(a.ints if a.name.endswith("s") else a.i, np.int64))
    return None


def is_value_of_codes(scope: Scope, name: str) -> bool:
    """Whether a tensor comes from a DequantizeLinear through operators that move elements."""
    for _ in range(len(scope.nodes) + 1):
        node = scope.producer(name)
        if node is None or node.op_type not in MOVES | {"DequantizeLinear"}:
            return False
        if node.op_type == "DequantizeLinear":
            return True
        name = input_name(node, 0)
    return False
