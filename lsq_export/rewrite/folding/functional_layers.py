"""functional_layers: weights without trained grids, of convolutions that a forward calls as functions, get 8 bits.

    Conv(x, W)  =>  Conv(x, DequantizeLinear(q, s))     s = max |W| / 127 for each output channel, q = round(W / s)

By at most half a step of 1/127 of the largest weight of a channel. What x lacks is calibrated, as any edge (edges.py).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import clean, constant, insert
from lsq_export.graph.notes import BITS
from lsq_export.graph.operators import LAYERS
from lsq_export.graph.read import array_of, is_op
from lsq_export.rewrite.contract.conditions import FROZEN_WEIGHTS
from lsq_export.rewrite.contract.passes import Keeps, Pass, stateless

LARGEST = 127


def quantize_weights(model: ir.Model) -> None:
    for node in list(model.graph):
        weight = array_of(node.inputs[1]) if is_op(node, *LAYERS) else None
        if weight is not None:
            _quantize(model.graph, node, weight.astype(np.float32))
    clean(model)


def _quantize(graph: ir.Graph, node: ir.Node, weight: np.ndarray) -> None:
    name = f"{node.name}.weight"
    largest = np.abs(weight).max(axis=tuple(range(1, weight.ndim)))
    scale = np.where(largest > 0, largest / LARGEST, 1.0).astype(np.float32)
    codes = np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.int8)
    inputs = [constant(graph, f"{name}.codes", codes), constant(graph, f"{name}.scale", scale)]
    value = insert(node, "DequantizeLinear", inputs, f"{name}.values", shape=list(weight.shape), axis=0)
    BITS.write(value, 8)
    node.replace_input_with(1, value)


PASS = Pass(
    "functional_layers",
    stateless(quantize_weights),
    Keeps.NOTHING,
    because="weights that training left float are rounded to 8 bits",
    ensures=(FROZEN_WEIGHTS,),
)
