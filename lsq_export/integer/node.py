"""One ONNX node as the operators see it, and the table in which they register."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import onnx

from calib.errors import QuantizationError
from calib.words import counted

Array: TypeAlias = np.ndarray
Inputs: TypeAlias = Sequence["Array | None"]  # None: an optional input that the node leaves out
Operator: TypeAlias = Callable[["Node", Inputs], "list[Array]"]

OPERATORS: dict[str, Operator] = {}
MICROSOFT = "com.microsoft"
UNKNOWN = "the integer reference does not know this operator: only integer operators belong in a qoperator file"


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node of the graph. op: the name of the operator, with its domain unless that is ONNX's own."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    proto: onnx.NodeProto = field(default_factory=onnx.NodeProto)
    opset: int = 21

    @staticmethod
    def from_proto(proto: onnx.NodeProto, opset: int) -> Node:
        """The node of a model whose ONNX opset is `opset`; a node without a name is called after its first output."""
        domain = "" if proto.domain in ("", "ai.onnx") else proto.domain + "."
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute}
        return Node(
            name=proto.name or proto.output[0],
            op=domain + proto.op_type,
            inputs=tuple(proto.input),
            outputs=tuple(proto.output),
            attributes=attributes,
            proto=proto,
            opset=opset,
        )

    def error(self, problem: str) -> QuantizationError:
        """One line that names the node and its operator."""
        return QuantizationError(f"node {self.name} ({self.op}): {problem}")


def operator(*names: str) -> Callable[[Operator], Operator]:
    """Register a function as the meaning of the operators `names` (with their domain, as in Node.op)."""

    def register(function: Operator) -> Operator:
        for name in names:
            OPERATORS[name] = function
        return function

    return register


def required(node: Node, x: Inputs, index: int) -> Array:
    """Input `index`, which the operator cannot do without."""
    value = x[index] if index < len(x) else None
    if value is None:
        raise node.error(f"input {index} is missing")
    return value


def optional(x: Inputs, index: int) -> Array | None:
    """Input `index`, or None where the node leaves it out."""
    return x[index] if index < len(x) else None


def codes(node: Node, x: Inputs, index: int) -> Array:
    """Input `index`, which must hold 8-bit codes."""
    value = required(node, x, index)
    if value.dtype not in (np.uint8, np.int8):
        raise node.error(f"input {index} ({node.inputs[index]}) is {value.dtype}: 8-bit codes (uint8, int8) are needed")
    return value


def scale_of(node: Node, x: Inputs, index: int) -> np.float32:
    """Input `index` as one positive float32 scale."""
    value = required(node, x, index)
    if value.dtype != np.float32 or value.size != 1:
        raise node.error(f"scale {node.inputs[index]} is {value.dtype}{list(value.shape)}: one float32 is needed")
    scale: np.float32 = value.reshape(-1)[0]
    if not (np.isfinite(scale) and scale > 0):
        raise node.error(f"scale {node.inputs[index]} is {scale}: it must be finite and positive")
    return scale


def zero_point_of(node: Node, x: Inputs, index: int) -> int:
    """Input `index` as one zero point; 0 where the node leaves it out."""
    value = optional(x, index)
    if value is None:
        return 0
    if value.size != 1:
        raise node.error(f"zero point {node.inputs[index]} has {counted(value.size, 'element')}: one is needed")
    return int(value.reshape(())[()])


def per_channel(node: Node, x: Inputs, index: int, channels: int) -> Array | None:
    """Input `index` with one element a channel (or a single one for all): shape (channels,); None where left out."""
    value = optional(x, index)
    if value is None:
        return None
    if value.size not in (1, channels):
        raise node.error(
            f"{node.inputs[index]} has {counted(value.size, 'element')}: 1 or {channels} (output channels) are needed"
        )
    return np.broadcast_to(value.reshape(-1), (channels,))


def float64(node: Node, x: Inputs, index: int) -> Array:
    """Input `index` of a float operator, which is float32 in the file."""
    value = required(node, x, index)
    if value.dtype != np.float32:
        raise node.error(f"its input {node.inputs[index]} is {value.dtype}: a float island computes in float32")
    return value.astype(np.float64)
