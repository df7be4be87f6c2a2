"""weights: a weight's marker becomes its codes.

    FakeQuantize(W, s)  =>  DequantizeLinear(q, s, axis 0)      q = clamp(round(W / s), qmin, qmax)  (E1), s as a vector [C_out]

The division is done in float32, as training did it, so that the codes are the trained ones to the last tie.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from calib.errors import QuantizationError
from calib.folding.containers import DEPTHWISE_LIMIT, WEIGHT_LIMIT, weight_gain
from calib.grid import quantize
from lsq_export.graph.build import array_of, attribute, clean, constant, constant_of, insert, is_marker, is_op, replace
from lsq_export.rewrite.normalizing.normalize import LINEAR


def freeze_weights(model: ir.Model) -> None:
    graph = model.graph
    for node in list(graph):
        if is_marker(node) and attribute(node, "kind") == "weight":
            _freeze(graph, node)
    clean(model)
    for node in graph:
        if is_op(node, *LINEAR):
            _name_layer(node)


def _freeze(graph: ir.Graph, node: ir.Node) -> None:
    name = attribute(node, "quantizer")
    weight = constant_of(node.inputs[0], name).astype(np.float32)
    scale = constant_of(node.inputs[1], f"{name}.scale").astype(np.float32).reshape(-1)
    scale = np.broadcast_to(scale, weight.shape[:1]).copy()
    if not np.isfinite(weight).all():
        raise QuantizationError(
            f"{name}: the weight has {int((~np.isfinite(weight)).sum())} non-finite values; train the layer again"
        )
    with np.errstate(over="ignore"):  # a scale near zero: the codes saturate
        codes = quantize(
            weight,
            scale.reshape(-1, *[1] * (weight.ndim - 1)),
            np.float32(0),
            attribute(node, "qmin"),
            attribute(node, "qmax"),
        )
    inputs = [constant(graph, f"{name}.codes", codes.astype(np.int8)), constant(graph, f"{name}.scale", scale)]
    value = insert(node, "DequantizeLinear", inputs, f"{name}.values", shape=node.outputs[0].shape, axis=0)
    value.metadata_props["bits"] = str(attribute(node, "bits"))
    replace(node.outputs[0], value)


def _name_layer(node: ir.Node) -> None:
    """A layer's node is called as in the PyTorch model; a layer without quantized weights is refused."""
    weight = node.inputs[1].producer() if node.inputs[1] is not None else None
    if not is_op(weight, "DequantizeLinear"):
        raise QuantizationError(
            f"{node.name}: this {node.op_type} has no weight quantizer (a functional convolution or product?): use "
            "torch.nn.Conv2d or Linear"
        )
    assert weight is not None and weight.outputs[0].name is not None
    bias = array_of(node.inputs[2]) if len(node.inputs) > 2 else None
    if bias is not None and not np.isfinite(bias).all():
        raise QuantizationError(
            f"{node.name}: the bias has {int((~np.isfinite(bias)).sum())} non-finite values; train the layer again"
        )
    layer = weight.outputs[0].name.removesuffix(".values").split(".weight")[0]
    node.name = layer


def weight_of(node: ir.Node) -> ir.Node:
    """The DequantizeLinear that makes the weight of a Conv or Gemm."""
    producer = node.inputs[1].producer() if node.inputs[1] is not None else None
    assert producer is not None and is_op(producer, "DequantizeLinear")
    return producer


def weight_codes(node: ir.Node) -> tuple[np.ndarray, np.ndarray]:
    """Codes (int16, shape of the weight) and scale (float64, [C_out]) of a Conv or Gemm."""
    weight = weight_of(node)
    codes = constant_of(weight.inputs[0], f"{node.name}: codes").astype(np.int16)
    return codes, constant_of(weight.inputs[1], f"{node.name}: scale").astype(np.float64)


def is_depthwise(node: ir.Node) -> bool:
    """Several groups, with one channel in and one out each."""
    codes, _ = weight_codes(node)
    return node.op_type == "Conv" and codes.shape[1] == 1 and attribute(node, "group", 1) == len(codes) > 1


def weight_limit(node: ir.Node) -> int:
    """E7: the largest code that INT8 weights may have."""
    return DEPTHWISE_LIMIT if is_depthwise(node) else WEIGHT_LIMIT


def gain_of(node: ir.Node) -> int:
    """g of E6."""
    return weight_gain(weight_codes(node)[0], limit=weight_limit(node))


def set_weight(
    node: ir.Node, graph: ir.Graph, codes: np.ndarray, scale: np.ndarray, zero_point: np.ndarray | None = None
) -> None:
    """Give a Conv or Gemm new codes and scales (float32)."""
    old = weight_of(node)
    assert old.outputs[0].name is not None
    name = old.outputs[0].name.removesuffix(".values")
    inputs = [constant(graph, f"{name}.codes", codes), constant(graph, f"{name}.scale", scale.astype(np.float32))]
    if zero_point is not None:
        inputs.append(constant(graph, f"{name}.zero_point", zero_point))
    value = insert(node, "DequantizeLinear", inputs, f"{name}.values", shape=old.outputs[0].shape, axis=0)
    value.metadata_props.update(old.outputs[0].metadata_props)
    node.replace_input_with(1, value)


def bias_of(node: ir.Node) -> np.ndarray:
    """The bias of a Conv or Gemm in float64, [C_out]; zeros if it has none."""
    codes, _ = weight_codes(node)
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return np.zeros(codes.shape[0])
    return constant_of(node.inputs[2], f"{node.name}: bias").astype(np.float64).reshape(-1) * np.ones(codes.shape[0])


def set_bias(node: ir.Node, graph: ir.Graph, bias: np.ndarray) -> None:
    """Give a Conv or Gemm a new bias, float64 until it is moved onto its int32 unit."""
    value = constant(graph, f"{layer_of(node)}.bias", bias)
    if len(node.inputs) < 3:
        node.resize_inputs(3)
    node.replace_input_with(2, value)


def layer_of(node: ir.Node) -> str:
    """The layer's name in the PyTorch model (with a number behind it where a module is used again)."""
    return str(node.name)
