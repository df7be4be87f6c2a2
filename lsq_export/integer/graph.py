"""An ONNX model as constants and a list of nodes."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike, fspath
from typing import TypeAlias

import numpy as np
import onnx
from onnx import numpy_helper

from calib.errors import QuantizationError

from .node import Array, Node

Model: TypeAlias = onnx.ModelProto | str | PathLike[str]


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Nodes in order of evaluation, constants (initializers) and the types of the inputs that a caller feeds."""

    nodes: tuple[Node, ...]
    constants: dict[str, Array]
    inputs: dict[str, np.dtype[np.generic]]
    outputs: tuple[str, ...]


def load(model: Model) -> Graph:
    """Read a model or a file. Initializers that are also graph inputs count as constants."""
    proto = model if isinstance(model, onnx.ModelProto) else onnx.load(fspath(model))
    opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 1)
    constants = {i.name: numpy_helper.to_array(i) for i in proto.graph.initializer}
    inputs = {
        i.name: onnx.helper.tensor_dtype_to_np_dtype(i.type.tensor_type.elem_type)
        for i in proto.graph.input
        if i.name not in constants
    }
    nodes = tuple(Node.from_proto(n, opset) for n in proto.graph.node)
    known = {*constants, *inputs, ""}
    for node in nodes:
        unknown = [name for name in node.inputs if name not in known]
        if unknown:
            raise node.error(f"its input {unknown[0]} is made by no earlier node: the graph is not in order")
        known.update(node.outputs)
    outputs = tuple(o.name for o in proto.graph.output)
    return Graph(nodes=nodes, constants=constants, inputs=inputs, outputs=outputs)


def needed(graph: Graph, outputs: tuple[str, ...]) -> tuple[Node, ...]:
    """The nodes on which `outputs` depend, in order. Errors (QuantizationError): a name that is not in the graph."""
    names, kept = set(outputs), []
    for node in reversed(graph.nodes):
        if names.intersection(node.outputs):
            kept.append(node)
            names.update(node.inputs)
    missing = set(outputs) - {*graph.constants, *graph.inputs, *(o for n in graph.nodes for o in n.outputs)}
    if missing:
        raise QuantizationError(
            f"tensor {min(missing)} is not in the model; its outputs are {', '.join(graph.outputs)}"
        )
    return tuple(reversed(kept))
