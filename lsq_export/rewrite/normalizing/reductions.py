"""reductions: means, sums and extremes over any axes are pools.

    ReduceMean(x)   =>  GlobalAveragePool(x), or an AveragePool whose window is all of the axes
    ReduceSum(x)    =>  ReduceMean(Mul(x, number of elements))      the Mul relabels the grid of x: one rounding
    ReduceMax(x)    =>  MaxPool(x)                  GlobalMaxPool(x) likewise
    ReduceMin(x)    =>  Mul(MaxPool(Mul(x, -1)), -1)

Axes that a pool does not know are moved: x [N, A…, R, B…] => Reshape(x) [N, A, R, B], a window of R × 1, and back.
Axes that are not neighbors are put side by side first, by a Transpose. Exact. Part of the pass normalize.py.
"""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import constant, insert, replace
from lsq_export.graph.read import array_of, attribute, graph_of, input_of, maker_of

POOLS = {
    "ReduceMean": "AveragePool",
    "ReduceSum": "AveragePool",
    "ReduceMax": "MaxPool",
    "ReduceMin": "MaxPool",
    "GlobalMaxPool": "MaxPool",
}


def to_pool(node: ir.Node) -> None:
    """Replace a reduction, unless axes are computed, the batch is among them, or sizes vary."""
    x, axes, sizes = input_of(node), _axes(node), _sizes(node)
    if not axes or axes[0] == 0 or not sizes:
        return
    name, elements = str(node.outputs[0].name), prod(sizes[axis] for axis in axes)
    if node.op_type == "ReduceMin":
        x = _times(node, x, -1.0, f"{name}_negative")
    if node.op_type == "ReduceSum" and elements > 1:
        x = _times(node, x, float(elements), f"{name}_sum")
    y = _pooled(node, x, axes, sizes)
    if node.op_type == "ReduceMin":
        y = _times(node, y, -1.0, f"{name}_positive")
    maker_of(y).name = node.name
    replace(node.outputs[0], y)


def _axes(node: ir.Node) -> list[int]:
    if node.op_type == "GlobalMaxPool":
        return list(range(2, len(input_of(node).shape or ())))
    given = array_of(node.inputs[1]) if len(node.inputs) > 1 else attribute(node, "axes")
    rank = len(input_of(node).shape or ())
    return sorted({int(axis) % max(rank, 1) for axis in np.reshape(given, -1)}) if given is not None else []


def _sizes(node: ir.Node) -> list[int]:
    """Of all axes, 0 for the batch; none where they vary."""
    shape = input_of(node).shape
    sizes = [size for size in shape[1:] if isinstance(size, int)] if shape is not None else []
    return [0, *sizes] if shape is not None and len(sizes) == len(shape) - 1 else []


def _pooled(node: ir.Node, x: ir.Value, axes: list[int], sizes: list[int]) -> ir.Value:
    """The mean or the maximum, in the shape that the node gives."""
    name, operator, rank = f"{node.outputs[0].name}_pool", POOLS[node.op_type], len(sizes)
    batch = x.shape[0] if x.shape is not None else None
    if rank in (4, 5) and axes[0] >= 2:
        pooled = _window(node, operator, x, [sizes[axis] if axis in axes else 1 for axis in range(2, rank)], name)
        if attribute(node, "keepdims", 1):
            return pooled
        if len(axes) == rank - 2:
            return insert(node, "Flatten", [pooled], f"{name}_flat", shape=node.outputs[0].shape, axis=1)
    else:
        if axes != list(range(axes[0], axes[-1] + 1)):
            order = [axis for axis in range(rank) if axis not in axes] + axes
            x = insert(node, "Transpose", [x], f"{name}_turned", shape=_in_order(x, order), perm=order)
            sizes, axes = [sizes[axis] for axis in order], list(range(rank - len(axes), rank))
        before, after = sizes[1 : axes[0]], sizes[axes[-1] + 1 :]
        apart = [prod(before), prod(sizes[axis] for axis in axes), prod(after)]
        x = _reshaped(node, x, apart, batch, f"{name}_apart")
        pooled = _window(node, operator, x, [apart[1], 1], name)
    known = node.outputs[0].shape
    assert known is not None
    return _reshaped(node, pooled, [int(size) for size in known[1:]], batch, f"{name}_back")  # type: ignore[arg-type]


def _window(node: ir.Node, operator: str, x: ir.Value, kernel: list[int], name: str) -> ir.Value:
    """A pool of that window, with one result for each row, column and so on that it does not cover."""
    assert x.shape is not None
    whole = all(size == k for size, k in zip(x.shape[2:], kernel, strict=True))
    shape = [x.shape[0], x.shape[1], *(1 if k > 1 else size for size, k in zip(x.shape[2:], kernel, strict=True))]
    if operator == "AveragePool" and whole:
        return insert(node, "GlobalAveragePool", [x], name, shape=shape)
    return insert(node, operator, [x], name, shape=shape, kernel_shape=kernel)


def _reshaped(node: ir.Node, x: ir.Value, sizes: list[int], batch: object, name: str) -> ir.Value:
    target = constant(graph_of(node), f"{name}.shape", np.array([-1, *sizes], np.int64))
    return insert(node, "Reshape", [x, target], name, shape=[batch, *sizes])


def _in_order(x: ir.Value, order: list[int]) -> list[object]:
    assert x.shape is not None
    return [x.shape[axis] for axis in order]


def _times(node: ir.Node, x: ir.Value, factor: float, name: str) -> ir.Value:
    number = constant(graph_of(node), f"{name}.factor", np.float32(factor))
    return insert(node, "Mul", [x, number], name, shape=x.shape)
