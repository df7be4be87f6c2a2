"""exact_sums: layers sum codes, and one multiplication makes values of the sum, for receivers that compute in floats.

    QuantizeLinear(Conv((x - z)·s_x, (w - v)·s_w, b·s_x·s_w); S, Z)
        =>  QuantizeLinear(Clip(Conv(x - z, w - v, b))·M; 1, Z),   M = s_x·s_w / S in float32, as requantized (E9)

The right side is the requantization of the integer reference: sums of integers are exact in float32 in any order while
they stay below 2^24, so that all that rounds is one product. On the left every product and every sum rounds, in an
order that each receiver has of its own, and what lies beside a tie goes to either side. Without a QuantizeLinear behind
it M is s_x·s_w. Clips of values in between get bounds in units of S.

The Clip after the layer is that of INT32, and changes nothing: tract 0.23.9 moves a multiplication behind a layer into
its weights, whose products round again. The codes of a grid may have two readers then, one with its scale and one with
1, which qonnx's QCDQToQuant does not expect.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import clean, constant, insert, insert_after, replace
from lsq_export.graph.layers import read_with
from lsq_export.graph.read import (
    array_of,
    constant_of,
    data_uses,
    graph_of,
    is_op,
    maker_of,
    producer_of,
    single_consumer,
)

EXACT = 2**24  # integers up to it are exact in float32
LIMIT = 2**31  # of INT32
SUMMED = ("Conv", "Gemm", "MatMul")


def exact_sums(model: ir.Model) -> None:
    """In a QDQ graph with float Clips. Layers whose bias float32 does not hold stay as they are."""
    for node in [node for node in model.graph if is_op(node, *SUMMED)]:
        if all(is_op(producer_of(x), "DequantizeLinear") for x in node.inputs[:2]) and _bias_fits(node):
            _sum_codes(node)
    clean(model)


def _bias_fits(node: ir.Node) -> bool:
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return True
    bias = producer_of(node.inputs[2])
    codes = array_of(bias.inputs[0]) if is_op(bias, "DequantizeLinear") and bias is not None else None
    return codes is not None and bool(np.abs(codes.astype(np.int64)).max(initial=0) <= EXACT)


def _sum_codes(node: ir.Node) -> None:
    graph, name = graph_of(node), str(node.name)
    unit = np.float32(1)
    for index in (0, 1):
        unit = unit * _with_unit_scale(node, index)
    if len(node.inputs) > 2 and (bias := producer_of(node.inputs[2])) is not None:
        codes = constant_of(bias.inputs[0], name).astype(np.float32)
        node.replace_input_with(2, constant(graph, f"{name}.bias.codes_as_float", codes))
    quantize = _quantize_after(node)
    if quantize is not None:
        scale = constant_of(quantize.inputs[1], name).astype(np.float32)
        unit = unit / scale
        _clip_in_steps(quantize, scale)
        quantize.replace_input_with(1, constant(graph, f"{name}.one", np.float32(1)))
    _multiply(node, unit)


def _with_unit_scale(node: ir.Node, index: int) -> np.ndarray:
    """Let a layer read the codes of an input, less their zero point; returns their scale, float32."""
    dequantize = producer_of(node.inputs[index])
    assert dequantize is not None
    scale = constant_of(dequantize.inputs[1], str(node.name)).astype(np.float32)
    name = str(dequantize.outputs[0].name)
    read_with(node, index, np.ones_like(scale), f"{name}.one", f"{name}.summed")
    return scale


def _quantize_after(node: ir.Node) -> ir.Node | None:
    """The QuantizeLinear with one scale that is all that reads a layer, with or without a Clip before it."""
    value = node.outputs[0]
    while single_consumer(value):
        reader = data_uses(value)[0][0]
        if is_op(reader, "QuantizeLinear"):
            return reader if constant_of(reader.inputs[1], str(node.name)).size == 1 else None
        if not is_op(reader, "Clip"):
            return None
        value = reader.outputs[0]
    return None


def _clip_in_steps(quantize: ir.Node, scale: np.ndarray) -> None:
    clip = producer_of(quantize.inputs[0])
    while is_op(clip, "Clip"):
        assert clip is not None
        for index in (1, 2):
            if len(clip.inputs) > index and clip.inputs[index] is not None:
                bound = constant_of(clip.inputs[index], str(clip.name)) / scale
                clip.replace_input_with(index, constant(graph_of(clip), f"{clip.name}.steps", bound))
        clip = producer_of(clip.inputs[0])


def _multiply(node: ir.Node, unit: np.ndarray) -> None:
    y, name = node.outputs[0], str(node.name)
    rank = len(y.shape) if y.shape is not None else 1
    channels = unit.reshape(-1, *[1] * (rank - 2)) if node.op_type == "Conv" and unit.size > 1 else unit
    factor = constant(graph_of(node), f"{name}.unit", channels.astype(np.float32))
    bounds = [
        constant(graph_of(node), f"{name}.{what}", np.float32(b)) for what, b in (("least", -LIMIT), ("most", LIMIT))
    ]
    product = insert_after(y, graph_of(node), "Mul", [y, factor], f"{name}.values")
    replace(y, product)
    multiply = maker_of(product)
    multiply.replace_input_with(0, insert(multiply, "Clip", [y, *bounds], f"{name}.sum", shape=y.shape))
