"""with_batch: a file whose batch is a number, for compilers that know no sizes that vary."""

from __future__ import annotations

import re

import onnx


def with_batch(file: onnx.ModelProto, size: int) -> onnx.ModelProto:
    """A copy in which the name of the batch, the first size of the inputs, is this number; others are left alone."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(file)
    graph = fixed.graph
    names = {_first(value).dim_param for value in graph.input if _rank(value)} - {""}
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in names:
                dim.dim_value = size
            elif names & {*re.findall(r"\w+", dim.dim_param)}:
                dim.Clear()  # a multiple of it: runtimes infer it
    return fixed


def batch_of(file: onnx.ModelProto) -> int | None:
    """The batch of a file, if it is a number."""
    constants = {tensor.name for tensor in file.graph.initializer}
    inputs = [value for value in file.graph.input if value.name not in constants]
    sizes = {_first(value).dim_value or None for value in inputs if _rank(value)}
    return next(iter(sizes)) if len(sizes) == 1 else None


def _rank(value: onnx.ValueInfoProto) -> int:
    return len(value.type.tensor_type.shape.dim)


def _first(value: onnx.ValueInfoProto) -> onnx.TensorShapeProto.Dimension:
    return value.type.tensor_type.shape.dim[0]
