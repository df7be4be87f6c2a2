"""Reading an ONNX graph through onnx_ir: constants, attributes, who makes and who reads a value.

Nothing here knows about quantization but the name of the marker operator.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from calib.errors import QuantizationError

from .notes import FLOAT

MARKER_DOMAIN, MARKER = "lsq_export", "FakeQuantize"


def array_of(value: ir.Value | None) -> np.ndarray | None:
    """The array of an initializer or of a Constant node; None for anything computed."""
    if value is None:
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def bytes_of_constants(graph: ir.Graph) -> int:
    """Of the initializers, in the types that they have."""
    return sum(value.const_value.nbytes for value in graph.initializers.values() if value.const_value is not None)


def constant_of(value: ir.Value | None, what: str) -> np.ndarray:
    """The array of a constant; an error that names `what` if it is computed."""
    array = array_of(value)
    if array is None:
        computed = value.name if value else "it"
        raise QuantizationError(f"{what}: this input must be a constant, but {computed} is computed")
    return array


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    """The value of an attribute, or the default."""
    present = node.attributes.get(name)
    return default if present is None else present.value


def is_op(node: ir.Node | None, *op_types: str) -> bool:
    """A standard operator of one of these types; never one that is kept float (graph/kept_float.py)."""
    return node is not None and node.domain == "" and node.op_type in op_types and not FLOAT.on(node)


def is_marker(node: ir.Node | None) -> bool:
    """One use of a quantizer, or an edge's grid (attribute kind: activation, weight, edge)."""
    return node is not None and node.domain == MARKER_DOMAIN and node.op_type == MARKER


def input_of(node: ir.Node, index: int = 0) -> ir.Value:
    """An input that the operator always has."""
    value = node.inputs[index]
    assert value is not None, f"{node.name} has no input {index}"
    return value


def producer_of(value: ir.Value | None) -> ir.Node | None:
    """The node that makes a value; None for an input of the graph, a constant, or no value."""
    return None if value is None else value.producer()


def maker_of(value: ir.Value | None) -> ir.Node:
    """The node that makes a value that is known to be computed."""
    node = producer_of(value)
    assert node is not None, f"{value.name if value else 'no value'} is not computed"
    return node


def graph_of(node: ir.Node) -> ir.Graph:
    """The graph that a node is in."""
    graph = node.graph
    assert isinstance(graph, ir.Graph), f"{node.name} is in no graph"
    return graph


def rank_of(value: ir.Value | None) -> int:
    """The number of axes; 0 where the shape is not known."""
    return len(value.shape) if value is not None and value.shape is not None else 0


def is_float(value: ir.Value | None) -> bool:
    """Whether a value holds numbers that can be put onto a grid; integers, masks and sequences cannot."""
    return value is not None and (value.dtype is None or value.dtype.is_floating_point())


def data_uses(value: ir.Value) -> list[tuple[ir.Node, int]]:
    """(reader, index of the input) of all but those that ask the network's input for the size of the batch, or make it
    an output as it is.
    """
    given = value.producer() is None
    return [(use.node, use.idx) for use in value.uses() if not (given and use.node.op_type in ("Shape", "Identity"))]


def data_readers(value: ir.Value) -> list[ir.Node]:
    """Those that read the elements of a value, once each."""
    return list(dict.fromkeys(node for node, _ in data_uses(value)))


def single_consumer(value: ir.Value) -> bool:
    """The elements of a value are read once, and not by the outside."""
    return len(data_uses(value)) == 1 and not value.is_graph_output()


def sole_producer(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The producer of a value that nobody else reads, if it is a standard operator of one of these types.

    Without types, any producer will do.
    """
    node = value.producer() if value is not None and single_consumer(value) else None
    return node if node is not None and (not op_types or is_op(node, *op_types)) else None


def gives_more(node: ir.Node) -> bool:
    """Somebody reads another output than the first."""
    return any(value.uses() or value.is_graph_output() for value in node.outputs[1:])
