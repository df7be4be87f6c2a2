"""freeze_weights: a weight's marker becomes its codes.

    FakeQuantize(W, s)  =>  DequantizeLinear(q, s, axis 0)      q = clamp(round(W / s), qmin, qmax)   (E1), s as [C_out]

The division is done in float32, as training did it, so that the codes are the trained ones to the last tie.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from calib.errors import QuantizationError
from calib.grid import quantize
from calib.words import counted
from lsq_export.graph.edit import clean, constant, insert, replace
from lsq_export.graph.notes import BITS
from lsq_export.graph.operators import LAYERS
from lsq_export.graph.read import array_of, attribute, constant_of, is_marker, is_op, producer_of
from lsq_export.rewrite.contract.conditions import KNOWN_OPERATORS, TRAINED_WEIGHTS
from lsq_export.rewrite.contract.passes import Keeps, Pass, stateless


def freeze_weights(model: ir.Model) -> None:
    graph = model.graph
    for node in list(graph):
        if is_marker(node) and attribute(node, "kind") == "weight":
            _freeze(graph, node)
    clean(model)
    for node in graph:
        if is_op(node, *LAYERS):
            _name_layer(node)


def _freeze(graph: ir.Graph, node: ir.Node) -> None:
    name = attribute(node, "quantizer")
    weight = constant_of(node.inputs[0], name).astype(np.float32)
    scale = constant_of(node.inputs[1], f"{name}.scale").astype(np.float32).reshape(-1)
    scale = np.broadcast_to(scale, weight.shape[:1]).copy()
    if not np.isfinite(weight).all():
        raise QuantizationError(
            f"{name}: the weight has {counted(int((~np.isfinite(weight)).sum()), 'non-finite value')}; train the "
            "layer again"
        )
    with np.errstate(over="ignore"):  # a scale near zero: the codes saturate
        by_channel = scale.reshape(-1, *[1] * (weight.ndim - 1))
        codes = quantize(weight, by_channel, np.float32(0), attribute(node, "qmin"), attribute(node, "qmax"))
    kind = np.int8 if np.abs(codes + 0.5).max(initial=0) < 128 else np.int16  # UINT8 with a zero point, in the end
    inputs = [constant(graph, f"{name}.codes", codes.astype(kind)), constant(graph, f"{name}.scale", scale)]
    value = insert(node, "DequantizeLinear", inputs, f"{name}.values", shape=node.outputs[0].shape, axis=0)
    BITS.write(value, int(attribute(node, "bits")))
    replace(node.outputs[0], value)


def _name_layer(node: ir.Node) -> None:
    """A layer's node is called as in the PyTorch model, one with weights of constants as it is."""
    weight = producer_of(node.inputs[1])
    bias = array_of(node.inputs[2]) if len(node.inputs) > 2 else None
    if bias is not None and not np.isfinite(bias).all():
        raise QuantizationError(
            f"{node.name}: the bias has {counted(int((~np.isfinite(bias)).sum()), 'non-finite value')}; train the "
            "layer again"
        )
    if weight is None or not is_op(weight, "DequantizeLinear"):
        return
    quantizer = str(weight.outputs[0].name).removesuffix(".values")
    # its own name is the last part, whatever the path holds
    node.name = quantizer.rpartition(".weight")[0] or quantizer


PASS = Pass(
    "freeze_weights", stateless(freeze_weights), Keeps.VALUES, requires=(KNOWN_OPERATORS,), ensures=(TRAINED_WEIGHTS,)
)
