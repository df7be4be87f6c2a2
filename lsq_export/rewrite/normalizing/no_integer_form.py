"""Why an operator has no integer form here, in a few words; None for one that has.

Reads a normalized graph, before weights are frozen.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from calib.errors import QuantizationError
from lsq_export.graph.layers import is_linear
from lsq_export.graph.operators import CONTRIB, LAYERS, OPERATORS, Kind
from lsq_export.graph.read import (
    array_of,
    attribute,
    gives_more,
    is_float,
    is_marker,
    is_op,
    producer_of,
    rank_of,
    single_consumer,
)

KNOWN = tuple(row.name for row in OPERATORS.values() if row.kind not in (Kind.GRID, Kind.REWRITTEN))
CONSTANT_INPUTS = tuple(row.name for row in OPERATORS.values() if row.constants)
WINDOWS = ("MaxPool", "AveragePool", "GlobalAveragePool")
RANKS = (4, 5)  # of images and volumes; sequences are images by now
NEAREST = ("nearest", "asymmetric", "floor")


def why_float(node: ir.Node) -> str | None:
    """Of a node that is no marker.

    Errors (QuantizationError): an operator of a domain that no runtime has.
    """
    if node.domain not in ("", CONTRIB):
        raise QuantizationError(
            f"{node.name}: no runtime has the operator {node.domain}::{node.op_type}; write it with functions of torch"
        )
    if not is_op(node, *KNOWN):
        return "no integer form"
    if not is_float(node.outputs[0]) or not (node.inputs and is_float(node.inputs[0])):
        return "integers or a mask that depend on data"
    if is_op(node, *LAYERS):
        return _of_layer(node)
    if is_op(node, *WINDOWS):
        return _of_window(node)
    return _of_constants(node) or _of_form(node)


def _of_layer(node: ir.Node) -> str | None:
    weight = producer_of(node.inputs[1])
    constant = array_of(node.inputs[1])
    if constant is not None and not np.isfinite(constant).all():
        return "a weight that is not finite"
    if constant is None and (weight is None or not is_marker(weight)):
        return "its weight is computed"
    if len(node.inputs) > 2 and node.inputs[2] is not None and array_of(node.inputs[2]) is None:
        return "its bias is computed"
    if node.op_type == "Conv":
        if rank_of(node.inputs[1]) not in RANKS:
            return f"a {rank_of(node.inputs[1]) - 2}-dimensional convolution"
        return _of_padding(node)
    odd = [n for n, usual in (("transA", 0), ("alpha", 1.0), ("beta", 1.0)) if attribute(node, n, usual) != usual]
    if odd or not attribute(node, "transB", 0):
        return f"a product with {odd[0]}={attribute(node, odd[0])}" if odd else "no weight of a Linear layer"
    return None


def _of_padding(node: ir.Node) -> str | None:
    given = attribute(node, "auto_pad", "NOTSET")
    return f"auto_pad={given}" if given not in ("NOTSET", "VALID") else None


def _of_window(node: ir.Node) -> str | None:
    if rank_of(node.inputs[0]) not in RANKS:
        return f"a pool of a tensor of rank {rank_of(node.inputs[0])}"
    if gives_more(node):
        return "a pool that gives places"
    if is_op(node, "AveragePool") and attribute(node, "ceil_mode", 0):
        return "an average pool whose last window is cut off (ceil_mode)"
    return _of_padding(node)


def _of_constants(node: ir.Node) -> str | None:
    others = [v for v in node.inputs[1:] if v is not None]
    if is_op(node, "Concat") and any(array_of(v) is not None for v in node.inputs):
        return "an operand is a constant, which has no grid"
    if is_op(node, "Clip", *CONSTANT_INPUTS) and any(array_of(v) is None for v in others):
        return "all inputs but the first must be constants"
    if is_op(node, "BatchNormalization") and any(array_of(v) is None for v in others):
        return "a norm by the statistics of the batch"
    if is_op(node, "Add", "MatMul", "Mul"):
        arrays = [a for v in node.inputs if (a := array_of(v)) is not None]
        if len(arrays) > 1 or any(not np.isfinite(a).all() for a in arrays):
            return "a constant that is not finite"
    return None


def _of_form(node: ir.Node) -> str | None:
    if is_op(node, "BatchNormalization"):
        maker, rank = producer_of(node.inputs[0]), rank_of(node.inputs[0])
        into = maker is not None and single_consumer(maker.outputs[0]) and (is_op(maker, *LAYERS) or is_linear(maker))
        return None if rank in (2, *RANKS) or into else f"a batch norm of a tensor of rank {rank}"
    if is_op(node, "Resize"):
        names = ("mode", "coordinate_transformation_mode", "nearest_mode")
        how = tuple(attribute(node, name) for name in names)
        if how != NEAREST or len(node.inputs) != 3 or node.inputs[2] is None:
            return f"a Resize of mode {', '.join(str(part) for part in how if part)}"
    if is_op(node, "Squeeze") and (len(node.inputs) < 2 or node.inputs[1] is None):
        return "a Squeeze of whatever has one element"
    if is_op(node, "Pad"):
        return _of_pad(node)
    if is_op(node, "LayerNormalization") and len(node.outputs) > 1:
        return "a norm that gives its statistics"
    return None


def _of_pad(node: ir.Node) -> str | None:
    mode, pads = attribute(node, "mode", "constant"), array_of(node.inputs[1])
    if mode not in ("constant", "reflect", "edge"):
        return f"a Pad of mode {mode}"
    if pads is None or (mode != "constant" and (pads < 0).any()):
        return "a Pad by what is computed, or one that crops"
    plain = len(node.inputs) == (3 if mode == "constant" else 2)
    return None if plain and pads.size == 2 * rank_of(node.inputs[0]) else "a Pad of some axes"
