"""Building blocks of the passes that place QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from calib.errors import QuantizationError
from lsq_export.graph.edit import constant, insert, make
from lsq_export.graph.grids import quantizer_of
from lsq_export.graph.layers import bias_of, is_padded, set_bias, weight_codes
from lsq_export.graph.read import attribute, graph_of, is_marker, is_op, producer_of

BLOCK = 2**18  # weights that are summed at once


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


def spread(
    graph: ir.Graph, before: ir.Node, codes: ir.Value, steps: float, scale: float, zero_point: int, name: str
) -> ir.Value:
    """Spreading (E5): c = k·q + o of codes q on the scale `steps`, clipped at the container's top.

    scale: S = s/k. zero_point: o + k, as q is read with 1.
    """
    values = dequantize(graph, before, codes, steps, 1, f"{name}.steps")
    return quantize(graph, before, values, scale, zero_point, f"{name}.strided")


def carry_remainder(graph: ir.Graph, node: ir.Node, remainder: float | np.ndarray) -> float:
    """The consumer carries the offset (E4): bias += δ·Σw, where δ is one number, or one for each input channel.

    Returns the largest error along a padded border, in output units.
    """
    codes, scale = weight_codes(node)
    groups = attribute(node, "group", 1)
    by_input = np.broadcast_to(remainder, (groups * codes.shape[1],)).reshape(groups, -1)
    group_of = np.arange(len(codes)) // (len(codes) // groups)
    carried, border, size = [], [], max(1, BLOCK // max(1, codes[0].size))
    for first in range(0, len(codes), size):
        rows = slice(first, first + size)
        taps = codes[rows].reshape(*codes[rows].shape[:2], -1).astype(np.float64)  # [rows, C_in/groups, kh·kw]
        delta = by_input[group_of[rows]]  # [rows, C_in/groups]
        carried.append((taps.sum(2) * delta).sum(1))
        border.append((np.abs(taps).sum(2) * np.abs(delta)).sum(1))
    set_bias(node, graph, bias_of(node) + np.concatenate(carried) * scale)
    return float((np.concatenate(border) * scale).max()) if is_padded(node) else 0.0


def _is_called(reader: ir.Node, name: str) -> bool:
    """A quantizer of that name, as those of adopted files are called by the tensor that they read."""
    codes = is_op(reader, "QuantizeLinear") and str(reader.outputs[0].name).startswith(f"{name}.codes")
    return codes or (is_marker(reader) and quantizer_of(reader) == name)


def repeat_grid(node: ir.Node) -> None:
    """DequantizeLinear(c) -> MaxPool  =>  … -> QuantizeLinear -> DequantizeLinear on the same grid, for compilers."""
    source, graph = producer_of(node.inputs[0]), graph_of(node)
    if source is None or not is_op(source, "DequantizeLinear"):
        raise QuantizationError(f"{node.name}: nothing before this {node.op_type} put its input onto a grid")
    grid, y = source.inputs[1:], node.outputs[0]
    readers, is_output = list(y.uses()), y.is_graph_output()
    name = f"{y.name}.moved" if any(_is_called(reader, str(y.name)) for reader, _ in readers) else str(y.name)
    pair = [make("QuantizeLinear", [y, *grid], f"{name}.codes", shape=y.shape)]
    pair.append(make("DequantizeLinear", [pair[0].outputs[0], *grid], f"{name}.values", shape=y.shape))
    graph.insert_after(node, pair)
    values = pair[1].outputs[0]
    for reader, index in readers:
        reader.replace_input_with(index, values)
    if is_output:
        for index, output in enumerate(graph.outputs):
            if output is y:
                graph.outputs[index] = values
                values.name, y.name = y.name, f"{y.name}_moved"
