"""tokens: a Linear on more than [N, C] is one on [N·…, C].

    Add(MatMul(x, Transpose(W)), b)  =>  Reshape(Gemm(Reshape(x), W, b))          x [N, T, …, C], W [C_out, C]
    Add(MatMul(x, Transpose(W)), b)  =>  Gemm(x, W, b)                            x [N, C]
    MatMul(x, C)                     =>  the same, where C is small integers times a number for each column

Exact: rows stay rows.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import constant, insert, replace
from lsq_export.graph.kept_float import stays_float
from lsq_export.graph.notes import FLOAT
from lsq_export.graph.read import array_of, attribute, is_marker, is_op, producer_of, single_consumer

from .fixed_weight import LARGEST, fixed_weight


def flatten_tokens(graph: ir.Graph, node: ir.Node) -> None:
    """Replace a MatMul with a Linear's weight; any other is left alone."""
    x, weight = node.inputs[0], _weight(graph, node)
    if x is None or weight is None:
        return
    out, depth = (int(size) for size in weight.shape)  # type: ignore[union-attr, arg-type]
    sizes = list(x.shape[1:-1]) if x.shape is not None else []
    plain = x.shape is not None and len(x.shape) == 2
    if not plain and (not sizes or not all(isinstance(size, int) for size in sizes)):
        return
    bias, last = _bias(node, out)
    name = str(node.outputs[0].name)
    flat = x
    if not plain:
        rows = constant(graph, f"{name}.rows", np.array([-1, depth]))
        flat = insert(last, "Reshape", [x, rows], f"{name}_rows", shape=[None, depth])
    y = insert(last, "Gemm", [flat, weight, *bias], f"{name}_gemm", shape=[None, out], transB=1)
    made = y.producer()
    assert made is not None
    made.name = node.name
    if stays_float(node):
        FLOAT.write(made, FLOAT.read(node))
    if plain:
        replace(last.outputs[0], y)
        return
    shape = constant(graph, f"{name}.shape", np.array([-1, *sizes, out]))
    replace(last.outputs[0], insert(last, "Reshape", [y, shape], f"{name}_tokens", shape=last.outputs[0].shape))


def _weight(graph: ir.Graph, node: ir.Node) -> ir.Value | None:
    """W of a product with a Linear's weight, [C_out, C_in]; None for any other product."""
    transposed = node.inputs[1]
    if stays_float(node):
        array = array_of(transposed)
        return None if array is None else constant(graph, f"{node.name}.weight", array.T)
    array = array_of(transposed)
    if array is not None:
        return _in_integers(node, array)
    turn = producer_of(transposed)
    weight = turn.inputs[0] if turn is not None and is_op(turn, "Transpose") else None
    marker = producer_of(weight)
    if turn is None or marker is None or not is_marker(marker) or attribute(marker, "kind") != "weight":
        return None
    return weight if list(attribute(turn, "perm")) == [1, 0] else None


def _in_integers(node: ir.Node, matrix: np.ndarray) -> ir.Value | None:
    """A constant matrix as the weight of a layer, if that holds it exactly."""
    if matrix.ndim != 2 or not np.isfinite(matrix).all() or not matrix.any(axis=0).all():
        return None
    rows = matrix.T.astype(np.float64)
    sizes = np.abs(rows)
    scale = np.where(sizes > 0, sizes, np.inf).min(axis=1, keepdims=True)
    codes = np.rint(rows / scale)
    if np.abs(codes).max() > LARGEST or not np.allclose(codes * scale, rows, rtol=1e-6, atol=0):
        return None
    return fixed_weight(node, str(node.outputs[0].name), codes.astype(np.int64), scale.reshape(-1))


def _bias(node: ir.Node, out: int) -> tuple[list[ir.Value], ir.Node]:
    """([bias] or [], the node whose output is the Linear's)."""
    (reader,) = node.outputs[0].consumers() if single_consumer(node.outputs[0]) else (None,)
    if reader is not None and is_op(reader, "Add"):
        for value in reader.inputs:
            array = array_of(value)
            if value is not None and array is not None and array.shape == (out,):
                return [value], reader
    return [], node
