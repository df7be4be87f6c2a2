"""affine: constants that a layer's output is multiplied by, or that are added to it, go into the layer.

    Add(Conv(x, W, b), c)               =>  Conv(x, W, b + c)                            c: one number, or [C, 1, 1]
    Add(Squeeze(Slice(Conv(x, W))), c)  =>  Squeeze(Slice(Conv(x, W, c)))                also Unsqueeze
    Add(MatMul(x, W), c)                =>  Add(MatMul(x, W), c as [C])                  which becomes a Gemm's bias
    Mul(Conv(x, W, b), c)               =>  BatchNormalization(Conv(x, W, b); γ = c)     which E8 folds

Sum and product would get grids of 8 bits of their own otherwise, and where the sum is much smaller than its parts,
or the constant than the layer's output, little is left of them. Exact.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import clean, constant, insert, replace
from lsq_export.graph.kept_float import stays_float
from lsq_export.graph.read import array_of, attribute, is_marker, is_op, maker_of, producer_of, rank_of, single_consumer
from lsq_export.rewrite.contract.passes import Keeps, Pass, stateless

LAYERS = ("Conv", "ConvTranspose")


def fold_affine(model: ir.Model) -> None:
    """Constants go into convolutions; a layer that is kept float, and one that others read as well, keep theirs."""
    for node in list(model.graph):
        if is_op(node, "Add", "Mul"):
            _fold(model.graph, node)
    clean(model)


def _fold(graph: ir.Graph, node: ir.Node) -> None:
    arrays = [array_of(x) for x in node.inputs]
    if len(arrays) != 2 or (arrays[0] is None) == (arrays[1] is None):
        return
    x, array = (node.inputs[0], arrays[1]) if arrays[0] is None else (node.inputs[1], arrays[0])
    if is_op(node, "Add") and array is not None and is_op(producer_of(x), "MatMul"):
        _flatten(graph, node, int(arrays[0] is None), array)
        return
    if is_op(node, "Add") and _into_norm(graph, node, x, array):
        return
    found = _layer_of(x)
    if found is None or array is None or array.dtype.kind != "f" or not np.isfinite(array).all():
        return
    layer, axis = found
    channels = _channels(layer)
    values = _per_channel(array, rank_of(x), axis, channels)
    if values is None:
        return
    bias = _bias(layer, channels)
    if bias is None:
        return
    if node.op_type == "Add":
        total = constant(graph, f"{layer.name}.bias_with_{node.name}", (bias + values).astype(np.float32))
        layer.resize_inputs(3)
        layer.replace_input_with(2, total)
    elif (values == 0).any() or maker_of(x) is not layer:
        return
    else:
        x = _as_norm(graph, node, layer, values)
    assert x is not None
    replace(node.outputs[0], x)


def _into_norm(graph: ir.Graph, node: ir.Node, x: ir.Value | None, array: np.ndarray | None) -> bool:
    """Add(BatchNormalization(h), c): c goes into the shift. Returns whether it did."""
    norm = producer_of(x)
    if x is None or array is None or not is_op(norm, "BatchNormalization") or not single_consumer(x):
        return False
    shift = array_of(norm.inputs[2])  # type: ignore[union-attr]
    values = None if shift is None else _per_channel(array, rank_of(x), 1, shift.size)
    if norm is None or shift is None or values is None or not np.isfinite(values).all():
        return False
    total = constant(graph, f"{norm.name}.shift_with_{node.name}", (shift + values).astype(np.float32))
    norm.replace_input_with(2, total)
    replace(node.outputs[0], x)
    return True


def _flatten(graph: ir.Graph, node: ir.Node, index: int, array: np.ndarray) -> None:
    """[1, …, 1, C] => [C], where the sum keeps its rank."""
    if 1 < array.ndim <= rank_of(node.inputs[1 - index]) and array.size == array.shape[-1] > 1:
        node.replace_input_with(index, constant(graph, f"{node.name}.bias", array.reshape(-1)))


def _as_norm(graph: ir.Graph, node: ir.Node, layer: ir.Node, factor: np.ndarray) -> ir.Value:
    """A batch norm whose standard deviation is 1."""
    ones, zeros = np.ones_like(factor), np.zeros_like(factor)
    numbers = [
        constant(graph, f"{node.name}.{what}", array.astype(np.float32))
        for what, array in (("factor", factor), ("shift", zeros), ("mean", zeros), ("variance", ones))
    ]
    made = insert(
        node,
        "BatchNormalization",
        [layer.outputs[0], *numbers],
        f"{node.outputs[0].name}_norm",
        shape=node.outputs[0].shape,
        epsilon=0.0,
    )
    maker_of(made).name = node.name
    return made


def _layer_of(x: ir.Value | None) -> tuple[ir.Node, int] | None:
    """(layer that makes x, axis of its channels in x), perhaps through operators that leave channels where they are.

    None where something else makes x, or others read it as well.
    """
    if x is None or not single_consumer(x):
        return None
    node = producer_of(x)
    if node is None or stays_float(node) or node.domain != "":
        return None
    if is_op(node, *LAYERS):
        return node, 1
    if not is_op(node, "Slice", "Squeeze", "Unsqueeze"):
        return None
    inner = _layer_of(node.inputs[0])
    axes = _axes(node)
    if inner is None or axes is None:
        return None
    layer, axis = inner
    if is_op(node, "Unsqueeze"):
        for added in sorted(axes):
            axis += added <= axis
        return layer, axis
    if axis in axes:
        return None
    return layer, axis - (sum(gone < axis for gone in axes) if is_op(node, "Squeeze") else 0)


def _axes(node: ir.Node) -> list[int] | None:
    """Which axes a Slice cuts, a Squeeze drops or an Unsqueeze adds, none of them negative."""
    if is_op(node, "Slice"):
        before, after = (v.shape if v is not None else None for v in (node.inputs[0], node.outputs[0]))
        if before is None or after is None:
            return None
        steps = array_of(node.inputs[4]) if len(node.inputs) > 4 else np.ones(1)
        whole = steps is not None and (steps == 1).all()  # what is as long as before, and not backward, is all of it
        return [axis for axis, (a, b) in enumerate(zip(before, after, strict=True)) if not (whole and a == b)]
    given = array_of(node.inputs[1]) if len(node.inputs) > 1 else None
    rank = rank_of(node.inputs[0]) + (given.size if given is not None and is_op(node, "Unsqueeze") else 0)
    if given is None or rank == 0:
        return None
    return [int(axis) % rank for axis in given.reshape(-1)]


def _channels(layer: ir.Node) -> int:
    """How many outputs a layer has; 0 where that is not known."""
    weight = layer.inputs[1]
    maker = producer_of(weight)
    sizes = weight.shape if weight is not None else None
    if sizes is None and maker is not None and is_marker(maker):
        sizes = maker.inputs[0].shape if maker.inputs[0] is not None else None
    size = None if sizes is None else sizes[1] if is_op(layer, "ConvTranspose") else sizes[0]
    groups = attribute(layer, "group", 1) if is_op(layer, "ConvTranspose") else 1
    return size * groups if isinstance(size, int) else 0


def _per_channel(array: np.ndarray, rank: int, axis: int, channels: int) -> np.ndarray | None:
    """One number for each channel, [C]; None for a constant that differs along other axes, or makes x larger."""
    if channels == 0 or array.ndim > max(rank, 1) or rank == 0:
        return None
    if array.size == 1:
        return np.full(channels, float(array.reshape(())))
    sizes = (1,) * (rank - array.ndim) + array.shape
    if sizes != tuple(channels if place == axis else 1 for place in range(rank)):
        return None
    return array.reshape(-1).astype(np.float64)


def _bias(layer: ir.Node, channels: int) -> np.ndarray | None:
    """[C]; None where it is computed."""
    if len(layer.inputs) < 3 or layer.inputs[2] is None:
        return np.zeros(channels)
    array = array_of(layer.inputs[2])
    return None if array is None else array.astype(np.float64)


PASS = Pass("fold_affine", stateless(fold_affine), Keeps.VALUES)
