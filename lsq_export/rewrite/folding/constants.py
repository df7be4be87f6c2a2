"""constants: constants that are added or multiplied become batch norms.

    Mul(Conv(x), c), Add(Conv(x), c)    =>  BatchNormalization(Conv(x); γ = c), …(β = c)    a number, or one a channel
    Mul(x, c), Add(x, c)                =>  BatchNormalization(x; γ = c), …(β = c)          one for each channel
    Mul(x, c > 0)                       stays: it relabels a grid (scaling.py)

Exact: a batch norm goes into the layer before it (E8, batch_norm.py). Other constants: constant_grids.py.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import clean, constant, insert, replace
from lsq_export.graph.layers import is_linear
from lsq_export.graph.read import array_of, input_of, is_op, maker_of, rank_of, single_consumer
from lsq_export.rewrite.contract.conditions import FROZEN_WEIGHTS
from lsq_export.rewrite.contract.passes import Keeps, Pass, stateless


def constants_to_batch_norms(model: ir.Model) -> None:
    for node in list(model.graph):
        operand = constant_operand(node)
        if operand is not None:
            _to_batch_norm(model.graph, node, *operand)
    clean(model)


def constant_operand(node: ir.Node) -> tuple[ir.Value, np.ndarray] | None:
    """(x, constant) of an Add or Mul of one computed and one constant operand; None for anything else."""
    if not is_op(node, "Add", "Mul"):
        return None
    known = [i for i, v in enumerate(node.inputs) if array_of(v) is not None]
    if len(known) != 1:
        return None
    array = array_of(node.inputs[known[0]])
    assert array is not None
    return input_of(node, 1 - known[0]), array


def _to_batch_norm(graph: ir.Graph, node: ir.Node, x: ir.Value, array: np.ndarray) -> None:
    absorbed = (is_linear(x.producer()) or is_op(x.producer(), "BatchNormalization")) and single_consumer(x)
    values = _per_channel(array, x)
    if values is None or not (absorbed or array.size > 1) or (node.op_type == "Mul" and not values.any()):
        return
    zeros, ones = np.zeros_like(values), np.ones_like(values)
    gamma, beta = (values, zeros) if node.op_type == "Mul" else (ones, values)
    parts = {"weight": gamma, "bias": beta, "mean": zeros, "variance": ones}
    constants = [constant(graph, f"{node.name}.{what}", part) for what, part in parts.items()]
    name, shape = f"{node.outputs[0].name}_affine", node.outputs[0].shape
    y = insert(node, "BatchNormalization", [x, *constants], name, shape=shape, epsilon=0.0)
    maker_of(y).name = node.name
    replace(node.outputs[0], y)


def _per_channel(array: np.ndarray, x: ir.Value) -> np.ndarray | None:
    """float32 [C] of a constant that broadcasts against x [N, C] or [N, C, H, W] along the channels; otherwise None."""
    rank, channels = rank_of(x), x.shape[1] if x.shape is not None and len(x.shape) > 1 else None
    if rank not in (2, 4) or not isinstance(channels, int) or array.ndim > rank or not np.isfinite(array).all():
        return None
    shape = [1] * (rank - array.ndim) + list(array.shape)
    if any(size != 1 for axis, size in enumerate(shape) if axis != 1) or shape[1] not in (1, channels):
        return None
    return np.array(np.broadcast_to(array.reshape(-1).astype(np.float32), (channels,)))


PASS = Pass("constants", stateless(constants_to_batch_norms), Keeps.VALUES, requires=(FROZEN_WEIGHTS,))
