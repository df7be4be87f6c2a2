"""Networks of float16 or bfloat16 are read as float32, which has all of their numbers.

Conv(x, W) in float16              =>  Conv(x, W) in float32: the same W
Cast(x, to=float16), x a float32   =>  x
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir

from calib.errors import warn
from lsq_export.graph.edit import replace

SINGLE = ir.DataType.FLOAT
HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
TYPES = ("to", "dtype", "output_dtype")  # attributes that name the type of what is made


def widen_halves(model: ir.Model, path: Path) -> None:
    """A warning (QuantizationWarning) says it where there are any, in place."""
    if not any(value.dtype in HALVES for value in _values(model.graph)):
        return
    from onnx_ir.passes.common import ShapeInferencePass

    warn(
        f"{path} computes in float16 or bfloat16: it is read as float32, with the same constants and less rounding; "
        "inputs are float32"
    )
    for value in _values(model.graph):
        if value.dtype in HALVES:
            value.dtype = SINGLE
        if value.const_value is not None and value.const_value.dtype in HALVES:
            value.const_value = _widened(value.const_value)
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        _widen_attributes(node)
    ShapeInferencePass()(model)  # the file need not say which values are floats
    for node in list(ir.traversal.RecursiveGraphIterator(model.graph)):
        if node.op_type == "Cast" and node.domain == "":
            _drop(node)


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    """All values of a graph and of those inside it."""
    yield from (*graph.inputs, *graph.initializers.values())
    for node in ir.traversal.RecursiveGraphIterator(graph):
        yield from node.outputs
        for inner in _graphs(node):
            yield from (*inner.inputs, *inner.initializers.values())


def _graphs(node: ir.Node) -> Iterator[ir.Graph]:
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()


def _widened(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    return ir.tensor(tensor.numpy().astype(np.float32), name=tensor.name)


def _widen_attributes(node: ir.Node) -> None:
    for name, attribute in list(node.attributes.items()):
        if attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype in HALVES:
            node.attributes[name] = ir.AttrTensor(name, _widened(attribute.as_tensor()))
        if name in TYPES and attribute.type == ir.AttributeType.INT and attribute.as_int() in HALVES:
            node.attributes[name] = ir.AttrInt64(name, int(SINGLE))


def _drop(node: ir.Node) -> None:
    """A Cast that changes nothing any more; what a graph gives keeps its name."""
    given = node.inputs[0]
    if given is None or given.dtype != SINGLE or node.attributes["to"].as_int() != SINGLE:
        return
    if node.outputs[0].is_graph_output():
        node.op_type = "Identity"
        del node.attributes["to"]
    else:
        replace(node.outputs[0], given)
