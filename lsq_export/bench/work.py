"""How much arithmetic a network is. With it, milliseconds become operations per second, as the machine's peak is."""

from __future__ import annotations

import math

import onnx

from .children import as_file
from .sessions import Source

LAYERS = ("Conv", "Gemm", "MatMul")


def operations(source: Source, batch: int = 1) -> int | None:
    """Multiplications and additions of the convolutions and matrix products of a float model at that batch size.

    None where a shape is not known.
    """
    with as_file(source) as path:
        proto = onnx.load(path)
    for value in proto.graph.input:
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_value = batch
    del proto.graph.value_info[:]  # these hold the symbols of the exporter: infer the shapes anew
    for value in proto.graph.output:
        value.type.tensor_type.ClearField("shape")
    graph = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        dims = value.type.tensor_type.shape.dim
        if dims and all(dim.HasField("dim_value") for dim in dims):
            shapes[value.name] = tuple(dim.dim_value for dim in dims)
    total = 0
    for node in graph.node:
        if node.op_type in LAYERS:
            if node.output[0] not in shapes or node.input[1] not in shapes:
                return None
            out, weight = shapes[node.output[0]], shapes[node.input[1]]
            # out [N, O, …], weight [O, I/groups, …] of a convolution; out [N, O], weight [I, O] or (transB) [O, I]
            per_output = math.prod(weight[1:]) if node.op_type == "Conv" else math.prod(weight) // out[-1]
            total += 2 * math.prod(out) * per_output
    return total
