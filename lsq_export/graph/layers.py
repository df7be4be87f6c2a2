"""What a Conv or Gemm of a captured or folded graph holds: weight codes, scales, bias, geometry."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from calib.errors import QuantizationError
from calib.folding.containers import DEPTHWISE_LIMIT, WEIGHT_LIMIT, weight_gain
from calib.rounding.requantization import OutputGrid

from .edit import constant, insert
from .kept_float import is_plain_float_layer
from .operators import LAYERS, MOVES
from .read import attribute, constant_of, graph_of, input_of, is_op, producer_of

NOMINAL = 64  # rows and columns of images whose size varies, for shares of their border


def layer_of(node: ir.Node) -> str:
    """The layer's name in the PyTorch model (with a number after it where a module is used again)."""
    return str(node.name)


def weight_of(node: ir.Node) -> ir.Node:
    """The DequantizeLinear that makes the weight of a layer."""
    producer = producer_of(node.inputs[1])
    assert producer is not None and is_op(producer, "DequantizeLinear"), f"{node.name} has no quantized weight"
    return producer


def weight_codes(node: ir.Node) -> tuple[np.ndarray, np.ndarray]:
    """Codes (int16, shape of the weight) and scale (float64, [C_out]) of a layer."""
    weight = weight_of(node)
    codes = constant_of(weight.inputs[0], f"{node.name}: codes").astype(np.int16)
    return codes, constant_of(weight.inputs[1], f"{node.name}: scale").astype(np.float64)


def set_weight(
    node: ir.Node, graph: ir.Graph, codes: np.ndarray, scale: np.ndarray, zero_point: np.ndarray | None = None
) -> None:
    """Give a layer new codes and scales (float32)."""
    old = weight_of(node)
    name = str(old.outputs[0].name).removesuffix(".values")
    inputs = [constant(graph, f"{name}.codes", codes), constant(graph, f"{name}.scale", scale.astype(np.float32))]
    if zero_point is not None:
        inputs.append(constant(graph, f"{name}.zero_point", zero_point))
    value = insert(node, "DequantizeLinear", inputs, f"{name}.values", shape=ir.Shape(codes.shape), axis=0)
    value.metadata_props.update(old.outputs[0].metadata_props)
    node.replace_input_with(1, value)


def read_with(node: ir.Node, index: int, scale: np.ndarray, grid: str, made: str) -> None:
    """Let a layer read the codes of an input with another scale. grid, made: names of the scale, and of the values."""
    dequantize = producer_of(node.inputs[index])
    assert dequantize is not None
    attributes = {name: attribute.value for name, attribute in dequantize.attributes.items()}
    inputs = [dequantize.inputs[0], constant(graph_of(node), grid, scale), *dequantize.inputs[2:]]
    shape, domain = dequantize.outputs[0].shape, dequantize.domain
    value = insert(node, dequantize.op_type, inputs, made, domain=domain, shape=shape, **attributes)
    node.replace_input_with(index, value)


def is_linear(node: ir.Node | None) -> bool:
    """A layer, quantized or kept float, whose weights can carry factors of output channels, and whose bias sums."""
    return is_op(node, *LAYERS) or is_plain_float_layer(node)


def scale_weight(node: ir.Node, graph: ir.Graph, factor: np.ndarray | float) -> None:
    """Multiply the weight of a linear layer. factor: positive for a quantized one; a number, or one a channel."""
    if is_op(node, *LAYERS):
        codes, scale = weight_codes(node)
        set_weight(node, graph, codes, scale * factor)
        return
    weight = constant_of(node.inputs[1], f"{node.name}: weight").astype(np.float64)
    by_channel = np.broadcast_to(factor, weight.shape[:1]).reshape(-1, *[1] * (weight.ndim - 1))
    scaled = constant(graph, f"{layer_of(node)}.weight", (weight * by_channel).astype(np.float32))
    node.replace_input_with(1, scaled)


def _out_channels(node: ir.Node) -> int:
    if is_op(node, *LAYERS):
        return int(weight_codes(node)[0].shape[0])
    return int(constant_of(node.inputs[1], f"{node.name}: weight").shape[0])


def bias_of(node: ir.Node) -> np.ndarray:
    """The bias of a layer in float64, [C_out]; zeros if it has none."""
    channels = _out_channels(node)
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return np.zeros(channels)
    return constant_of(node.inputs[2], f"{node.name}: bias").astype(np.float64).reshape(-1) * np.ones(channels)


def set_bias(node: ir.Node, graph: ir.Graph, bias: np.ndarray) -> None:
    """Give a layer a new bias, float64 until it is moved onto its int32 unit (E6); float32 for one kept float."""
    value = constant(graph, f"{layer_of(node)}.bias", bias if is_op(node, *LAYERS) else bias.astype(np.float32))
    if len(node.inputs) < 3:
        node.resize_inputs(3)
    node.replace_input_with(2, value)


def is_depthwise(node: ir.Node) -> bool:
    """Several groups, with one channel in and one out each."""
    codes, _ = weight_codes(node)
    return node.op_type == "Conv" and codes.shape[1] == 1 and attribute(node, "group", 1) == len(codes) > 1


def weight_limit(node: ir.Node) -> int:
    """The largest code that INT8 weights may have (E7)."""
    return DEPTHWISE_LIMIT if is_depthwise(node) else WEIGHT_LIMIT


def gain_of(node: ir.Node) -> int:
    """The weight gain g (E6)."""
    return weight_gain(weight_codes(node)[0], limit=weight_limit(node))


def input_scale_of(node: ir.Node) -> float:
    """S of the DequantizeLinear before a layer, as float32 holds it."""
    return float(constant_of(_source_of(node).inputs[1], layer_of(node)))


def input_zero_point_of(node: ir.Node) -> int:
    """Z of the DequantizeLinear before a layer."""
    return int(constant_of(_source_of(node).inputs[2], layer_of(node)))


def _source_of(node: ir.Node) -> ir.Node:
    source = producer_of(node.inputs[0])
    if source is None or not is_op(source, "DequantizeLinear"):
        raise QuantizationError(f"{layer_of(node)}: nothing put the input of this layer onto a grid")
    return source


def output_grid_of(node: ir.Node) -> OutputGrid | None:
    """Of the QuantizeLinear after a layer; None where the accumulator is the output."""
    readers = list(node.outputs[0].consumers())
    if len(readers) != 1 or not is_op(readers[0], "QuantizeLinear"):
        return None
    scale, zero_point = (constant_of(v, layer_of(node)) for v in readers[0].inputs[1:3])
    return OutputGrid(float(scale), int(zero_point))


def layers_reading(value: ir.Value) -> list[ir.Node]:
    """The layers that read a value, perhaps through operators that move codes."""
    found: list[ir.Node] = []
    for node in value.consumers():
        if is_op(node, *LAYERS):
            found.append(node)
        elif is_op(node, *MOVES):
            found.extend(layers_reading(node.outputs[0]))
    return found


def is_padded(node: ir.Node) -> bool:
    """A convolution that reads zeros around its input."""
    return node.op_type == "Conv" and any(attribute(node, "pads", []))


def inside_taps(conv: ir.Node) -> list[np.ndarray]:
    """For each spatial axis, bool [outputs, kernel]: whether a tap reads the image, not the padding.

    Of sizes that vary, for an image of NOMINAL rows or columns.
    """
    shape = input_of(conv).shape
    assert shape is not None
    taps_of_axes = []
    spatial = len(shape) - 2
    for axis in range(spatial):
        known, pads = shape[2 + axis], attribute(conv, "pads")
        size = known if isinstance(known, int) else NOMINAL
        kernel, stride = attribute(conv, "kernel_shape")[axis], attribute(conv, "strides", [1] * spatial)[axis]
        dilation = attribute(conv, "dilations", [1] * spatial)[axis]
        outputs = (size + pads[axis] + pads[spatial + axis] - dilation * (kernel - 1) - 1) // stride + 1
        taps = np.arange(outputs)[:, None] * stride + np.arange(kernel) * dilation - pads[axis]
        taps_of_axes.append((taps >= 0) & (taps < size))
    return taps_of_axes


def outside_share(node: ir.Node) -> float:
    """φ: the share of a convolution's taps that read the padding, over all outputs."""
    return 1 - float(np.prod([taps.mean() for taps in inside_taps(node)])) if is_padded(node) else 0.0
