"""affine: constants that are added or multiplied become a batch norm, or a constant on a grid of its own.

    Mul(Conv(x), c), Add(Conv(x), c)    =>  BatchNormalization(Conv(x); γ = c), …(β = c)     one constant, or one a channel: goes into the layer (E8)
    Mul(x, c), Add(x, c)                =>  BatchNormalization(x; …)                         one for each channel, behind anything else
    Add(x, c), Mul(x, c < 0)            =>  Add(x, DequantizeLinear(1; |c|, 0)), …           one constant: QLinearAdd and QLinearMul with one element
    Mul(x, c > 0)                       stays: it relabels a grid (scaling.py)

    Add(x, c), Mul(x, c)                =>  Add(x, DequantizeLinear(codes; …)), …            any other tensor: on an 8-bit grid of its own

Exact but for the last one, which rounds a constant as an edge rounds a tensor: by at most half a step of 1/255 of its
range."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from calib.errors import QuantizationError
from calib.folding.containers import CONTAINER_MAX
from calib.grid import quantize_linear
from lsq_export.graph.build import array_of, clean, constant, insert, is_op, replace, single_consumer
from lsq_export.rewrite.normalizing.normalize import LINEAR

from .qdq import dequantize, one_element
from .scaling import factor_of

OPERAND = (
    "operand"  # metadata of the DequantizeLinear of such a constant: the output's scale may move, not the constant
)


def place_constants(model: ir.Model) -> None:
    graph = model.graph
    for node in list(graph):
        if is_op(node, "Add", "Mul"):
            _place(graph, node)
    clean(model)


def _place(graph: ir.Graph, node: ir.Node) -> None:
    known = [i for i, v in enumerate(node.inputs) if array_of(v) is not None]
    if len(known) != 1:
        return
    x, array = node.inputs[1 - known[0]], array_of(node.inputs[known[0]])
    assert x is not None and array is not None
    producer = x.producer()
    absorbed = is_op(producer, *LINEAR, "BatchNormalization") and single_consumer(x)
    channels = _per_channel(array, x)
    if channels is not None and (absorbed or array.size > 1) and not (node.op_type == "Mul" and not channels.any()):
        _batch_norm(graph, node, x, channels)
        return
    if factor_of(node) is not None:
        return
    if not np.isfinite(array).all():
        raise QuantizationError(f"{node.name}: the constant of this {node.op_type} is not finite")
    number = float(array.reshape(-1)[0]) if array.size == 1 else 0.0
    operand = one_element(graph, node, number, str(node.name)) if number else _on_grid(graph, node, array)
    made = operand.producer()
    assert made is not None
    made.metadata_props[OPERAND] = "yes"
    node.replace_input_with(0, x)
    node.replace_input_with(1, operand)


def _on_grid(graph: ir.Graph, node: ir.Node, array: np.ndarray) -> ir.Value:
    """The constant in 256 codes; 0 is one of them."""
    low, high = min(float(array.min()), 0.0), max(float(array.max()), 0.0)
    scale = float(np.float32((high - low) / CONTAINER_MAX)) or 1.0
    zero_point = int(np.rint(-low / scale))
    codes = quantize_linear(array.astype(np.float64), scale, zero_point, 0, CONTAINER_MAX)
    name = f"{node.name}.constant"
    return dequantize(
        graph, node, constant(graph, f"{name}.codes", np.asarray(codes).astype(np.uint8)), scale, zero_point, name
    )


def _per_channel(array: np.ndarray, x: ir.Value) -> np.ndarray | None:
    """float32 [C] of a constant that broadcasts against x [N, C] or [N, C, H, W] with one number, or one for each
    channel.
    """
    rank = len(x.shape) if x.shape is not None else 0
    if (
        rank not in (2, 4)
        or x.shape is None
        or not isinstance(x.shape[1], int)
        or array.ndim > rank
        or not np.isfinite(array).all()
    ):
        return None
    shape = [1] * (rank - array.ndim) + list(array.shape)
    if any(size != 1 for axis, size in enumerate(shape) if axis != 1) or shape[1] not in (1, x.shape[1]):
        return None
    return np.array(np.broadcast_to(array.reshape(-1).astype(np.float32), (x.shape[1],)))


def _batch_norm(graph: ir.Graph, node: ir.Node, x: ir.Value, values: np.ndarray) -> None:
    zeros, ones = np.zeros_like(values), np.ones_like(values)
    gamma, beta = (values, zeros) if node.op_type == "Mul" else (ones, values)
    parts = {"weight": gamma, "bias": beta, "mean": zeros, "variance": ones}
    constants = [constant(graph, f"{node.name}.{what}", array) for what, array in parts.items()]
    y = insert(
        node,
        "BatchNormalization",
        [x, *constants],
        f"{node.outputs[0].name}_affine",
        shape=node.outputs[0].shape,
        epsilon=0.0,
    )
    made = y.producer()
    assert made is not None
    made.name = node.name
    replace(node.outputs[0], y)
