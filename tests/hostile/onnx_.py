"""Damage of ONNX graphs that stay protobuf messages."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

OPERATORS = (
    "Conv",
    "QLinearConv",
    "Relu",
    "Add",
    "Nowhere",
    "Reshape",
    "Expand",
    "Tile",
    "DequantizeLinear",
    "Loop",
    "",
)


def damage(path: Path, rng: random.Random) -> str:
    """Change one part of a model; what was done."""
    model = onnx.load(path)
    kind = rng.choice(
        ("values", "values", "dims", "type", "input", "operator", "attribute", "remove", "repeat", "external", "shape")
    )
    graph = model.graph
    node = rng.choice(graph.node) if graph.node else onnx.NodeProto()
    tensor = rng.choice(graph.initializer) if graph.initializer else onnx.TensorProto()
    if kind == "values":
        _values(tensor, rng)
    elif kind == "dims":
        tensor.dims[:] = rng.choice(([], [0], [-1], [2**40], [2**31, 2**31], [*tensor.dims, 1], [*tensor.dims, 2]))
    elif kind == "type":
        tensor.data_type = rng.choice((0, 1, 2, 3, 6, 7, 8, 9, 16, 21, 22, 99))
    elif kind == "input" and node.input:
        at = rng.randrange(len(node.input))
        node.input[at] = rng.choice(("", "nowhere", node.output[0], graph.input[0].name, graph.node[-1].output[0]))
    elif kind == "operator":
        node.op_type = rng.choice(OPERATORS)
    elif kind == "attribute":
        _attribute(node, rng)
    elif kind == "remove":
        rng.choice((graph.node.remove, lambda n: graph.initializer.remove(tensor) if graph.initializer else None))(node)
    elif kind == "repeat":
        graph.node.add().CopyFrom(node)
    elif kind == "external":
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=rng.choice(("../outside", "/etc/hostname", "model.onnx")))
    else:
        _shape(rng.choice([*graph.input, *graph.output]), rng)
    path.write_bytes(model.SerializeToString())
    return f"onnx: {kind}"


def _values(tensor: onnx.TensorProto, rng: random.Random) -> None:
    try:
        array = numpy_helper.to_array(tensor).copy()
    except Exception:  # of a kind that numpy does not have
        return
    flat = array.reshape(-1)
    if not flat.size:
        return
    at = rng.randrange(flat.size)
    if array.dtype.kind == "f":
        flat[at] = rng.choice((np.nan, np.inf, -np.inf, 0.0, -1.0, 2.0 * float(flat[at]), 1e38, 1e-45))
    elif array.dtype.kind in "iu":
        limits = np.iinfo(array.dtype)
        flat[at] = rng.choice((limits.min, limits.max, 0, 1))
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _attribute(node: onnx.NodeProto, rng: random.Random) -> None:
    if not node.attribute:
        node.attribute.add(name="axis", type=onnx.AttributeProto.INT, i=rng.choice((-9, 0, 9)))
        return
    attribute = rng.choice(node.attribute)
    if attribute.ints:
        attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice((-1, 0, 2, 1000, 2**40))
    elif attribute.type == onnx.AttributeProto.INT:
        attribute.i = rng.choice((-(2**40), -1, 0, 1, 3, 2**40))
    elif attribute.type == onnx.AttributeProto.FLOAT:
        attribute.f = rng.choice((float("nan"), 0.0, -1.0, 1e38))
    else:
        node.attribute.remove(attribute)


def _shape(value: onnx.ValueInfoProto, rng: random.Random) -> None:
    dims = value.type.tensor_type.shape.dim
    if dims:
        rng.choice(dims).dim_value = rng.choice((0, 1, 3, 2**40))
    value.type.tensor_type.elem_type = rng.choice((1, 1, 1, 7, 10))
