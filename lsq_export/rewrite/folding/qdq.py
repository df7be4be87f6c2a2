"""Building blocks of the passes that place QuantizeLinear/DequantizeLinear."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from lsq_export.graph.build import attribute, constant, insert, is_op
from lsq_export.rewrite.normalizing.normalize import CODE_PRESERVING, LINEAR

from .weights import bias_of, set_bias, weight_codes


def parameters(graph: ir.Graph, name: str, scale: float, zero_point: int) -> list[ir.Value]:
    """The constants scale (float32) and zero point (UINT8) of one grid."""
    return [
        constant(graph, f"{name}.scale", np.float32(scale)),
        constant(graph, f"{name}.zero_point", np.uint8(zero_point)),
    ]


def quantize(graph: ir.Graph, before: ir.Node, x: ir.Value, scale: float, zero_point: int, name: str) -> ir.Value:
    return insert(before, "QuantizeLinear", [x, *parameters(graph, name, scale, zero_point)], name, shape=x.shape)


def dequantize(graph: ir.Graph, before: ir.Node, x: ir.Value, scale: float, zero_point: int, name: str) -> ir.Value:
    return insert(before, "DequantizeLinear", [x, *parameters(graph, name, scale, zero_point)], name, shape=x.shape)


def clip_codes(graph: ir.Graph, before: ir.Node, codes: ir.Value, low: int, high: int, name: str) -> ir.Value:
    """Codes limited to low … high, where the container holds more."""
    bounds = [constant(graph, f"{name}.{what}", np.uint8(value)) for what, value in (("low", low), ("high", high))]
    return insert(before, "Clip", [codes, *bounds], f"{name}.clipped", shape=codes.shape)


def shift(graph: ir.Graph, before: ir.Node, x: ir.Value, by: float, name: str) -> ir.Value:
    """x + by, with the constant as one quantized element, so that Add is an integer operator too."""
    if by == 0:
        return x
    return insert(before, "Add", [x, one_element(graph, before, by, f"{name}.shift")], f"{name}.shifted", shape=x.shape)


def one_element(graph: ir.Graph, before: ir.Node, value: float, name: str) -> ir.Value:
    """A constant that is not 0, as one quantized element."""
    code, zero_point = (1, 0) if value > 0 else (0, 1)
    one = constant(graph, f"{name}.code", np.array([code], np.uint8))
    return dequantize(graph, before, one, abs(value), zero_point, name)


def linear_consumers(value: ir.Value) -> list[ir.Node]:
    """The Conv and Gemm nodes that read the value, perhaps through operators that keep codes."""
    found: list[ir.Node] = []
    for node in value.consumers():
        if is_op(node, *LINEAR):
            found.append(node)
        elif is_op(node, *CODE_PRESERVING):
            found.extend(linear_consumers(node.outputs[0]))
    return found


def is_padded(node: ir.Node) -> bool:
    return node.op_type == "Conv" and any(attribute(node, "pads", []))


def inside_taps(conv: ir.Node) -> list[np.ndarray]:
    """For rows and for columns, bool [outputs, kernel]:

    whether a tap of a convolution reads the image, not the padding.
    """
    x = conv.inputs[0]
    assert x is not None and x.shape is not None
    found = []
    for axis in (0, 1):
        size, pads = int(x.shape[2 + axis]), attribute(conv, "pads")  # type: ignore[arg-type]
        kernel, stride = attribute(conv, "kernel_shape")[axis], attribute(conv, "strides", [1, 1])[axis]
        dilation = attribute(conv, "dilations", [1, 1])[axis]
        outputs = (size + pads[axis] + pads[2 + axis] - dilation * (kernel - 1) - 1) // stride + 1
        taps = np.arange(outputs)[:, None] * stride + np.arange(kernel) * dilation - pads[axis]
        found.append((taps >= 0) & (taps < size))
    return found


def outside_share(node: ir.Node) -> float:
    """φ: the share of a convolution's taps that read the padding, over all outputs."""
    return 1 - float(np.prod([taps.mean() for taps in inside_taps(node)])) if is_padded(node) else 0.0


def spread(
    graph: ir.Graph, before: ir.Node, codes: ir.Value, steps: float, scale: float, zero_point: int, name: str
) -> ir.Value:
    """E5: c = k·q + o of codes q on the scale `steps`, clipped at the container's top.

    scale: S = s/k. zero_point: o + k, as q is read with 1.
    """
    return quantize(
        graph, before, dequantize(graph, before, codes, steps, 1, f"{name}.steps"), scale, zero_point, f"{name}.strided"
    )


def carry_remainder(graph: ir.Graph, node: ir.Node, remainder: float | np.ndarray) -> float:
    """E4: bias += δ·Σw, where δ is one number, or one for each input channel.

    Returns the largest error along a padded border, in output units.
    """
    codes, scale = weight_codes(node)
    taps = codes.reshape(*codes.shape[:2], -1).astype(np.float64)  # [C_out, C_in/groups, kh·kw]
    groups = attribute(node, "group", 1)
    by_input = np.broadcast_to(remainder, (groups * codes.shape[1],)).reshape(groups, -1)
    delta = np.repeat(by_input, len(codes) // groups, axis=0)  # [C_out, C_in/groups]
    set_bias(node, graph, bias_of(node) + (taps.sum(2) * delta).sum(1) * scale)
    return float(((np.abs(taps).sum(2) * np.abs(delta)).sum(1) * scale).max()) if is_padded(node) else 0.0
