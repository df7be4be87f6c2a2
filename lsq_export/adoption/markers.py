"""Grids of the file become markers, one for each tensor that was put onto a grid:

    DequantizeLinear(Clip(QuantizeLinear(x; s, z), low, high); s, z)   =>  FakeQuantize(x; s, 0, low - z … high - z)
    Quant(x; s, z)                                                     =>  FakeQuantize(x; s, -z·s, low … high)
    Conv(x, W), Gemm, MatMul, ConvTranspose; W stored on a grid        =>  …(x, FakeQuantize(W; s))
    DequantizeLinear(codes) elsewhere (a bias)                         =>  the values

A code of the first marker is c - z: the same codes to the last tie, which -z·s as an offset would not give (E1 adds
before it rounds).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import clean, constant, insert_after, replace
from lsq_export.graph.notes import FLOAT
from lsq_export.graph.read import MARKER, MARKER_DOMAIN, array_of, producer_of

from .grids import CONTRIB, DEQUANTIZE, QUANT, QUANTIZE, grid_of, is_grid
from .layers import weight_to_marker
from .left import Left
from .qonnx import quant_of
from .stored import stored_in

WIDEST = 256  # codes that an 8-bit container holds
NO_PAIR = "a QuantizeLinear or DequantizeLinear without its counterpart on the same grid"
WIDE = "a grid of more than 8 bits"
PER_CHANNEL = "an activation with a scale for each channel"


def place_markers(model: ir.Model) -> list[Left]:
    """Returns what is left as it is, which is computed in float between grids."""
    graph = model.graph
    left = [found for node in list(graph) if (found := weight_to_marker(graph, node)) is not None]
    for node in list(graph):
        if is_grid(node, DEQUANTIZE, QUANT):
            _to_values(graph, node)
    clean(model)
    placed: dict[ir.Value, ir.Value] = {}
    for node in list(graph):
        if is_grid(node, QUANT):
            left += _of_quant(graph, node)
        elif is_grid(node, DEQUANTIZE):
            left += _of_pair(graph, node, placed)
    clean(model)
    for node in graph:
        if is_grid(node):
            FLOAT.write(node, NO_PAIR)
            node.domain = CONTRIB  # has all types in every operator set
            graph.opset_imports[CONTRIB] = 1
    return left


def _to_values(graph: ir.Graph, node: ir.Node) -> None:
    """A constant that is no weight of a layer."""
    stored = stored_in(node.outputs[0])
    if stored is not None and not node.outputs[0].is_graph_output():
        name = str(node.inputs[0].name) if node.inputs[0] is not None else str(node.name)
        node.outputs[0].replace_all_uses_with(constant(graph, f"{name}.values", stored.values))


def _of_pair(graph: ir.Graph, node: ir.Node, placed: dict[ir.Value, ir.Value]) -> Iterator[Left]:
    codes = node.inputs[0]
    assert codes is not None
    maker, clip = producer_of(codes), None
    if maker is not None and maker.op_type == "Clip":
        clip, maker = maker, producer_of(maker.inputs[0])
    if maker is None or not is_grid(maker, QUANTIZE):
        if producer_of(codes) is not None or codes.is_graph_input():
            yield Left(str(codes.name), NO_PAIR)
        return
    here, there = grid_of(maker), grid_of(node)
    if here is None or there is None or not here.same_steps(there):
        yield Left(str(codes.name), NO_PAIR)
        return
    low, high = _clipped(clip, here.low, here.high)
    if not here.per_tensor or high - low >= WIDEST:
        yield Left(str(codes.name), PER_CHANNEL if not here.per_tensor else WIDE)
        return
    zero_point = int(here.zero_point[0])
    if codes not in placed:
        x = maker.inputs[0]
        assert x is not None
        placed[codes] = marker_on(graph, x, float(here.scale[0]), 0.0, low - zero_point, high - zero_point)
    replace(node.outputs[0], placed[codes])


def _clipped(clip: ir.Node | None, low: int, high: int) -> tuple[int, int]:
    bounds = [array_of(v) for v in clip.inputs[1:3]] if clip is not None else []
    bounds += [None] * (2 - len(bounds))
    return (
        low if bounds[0] is None else max(low, int(bounds[0])),
        high if bounds[1] is None else min(high, int(bounds[1])),
    )


def _of_quant(graph: ir.Graph, node: ir.Node) -> Iterator[Left]:
    quant, x = quant_of(node), node.inputs[0]
    assert x is not None
    if array_of(x) is not None:
        return
    if quant is None or quant.scale.size != 1 or quant.zero_point.size != 1 or quant.high - quant.low >= WIDEST:
        yield Left(str(node.name), NO_PAIR if quant is None else WIDE if quant.scale.size == 1 else PER_CHANNEL)
        return
    scale, zero_point = float(quant.scale.reshape(())), float(quant.zero_point.reshape(()))
    y = marker_on(graph, x, scale, -zero_point * scale, quant.low, quant.high)
    replace(node.outputs[0], y)


def marker_on(graph: ir.Graph, x: ir.Value, scale: float, offset: float, qmin: int, qmax: int) -> ir.Value:
    """FakeQuantize(x); a quantizer is called as the tensor that it reads."""
    name = str(x.name)
    numbers = [
        constant(graph, f"{name}.{what}", np.float32(number)) for what, number in (("scale", scale), ("offset", offset))
    ]
    attributes = {
        "quantizer": name,
        "bits": max(2, int(qmax - qmin).bit_length()),
        "qmin": qmin,
        "qmax": qmax,
        "kind": "activation",
        "axis": -1,
    }
    return insert_after(x, graph, MARKER, [x, *numbers], f"{name}_on_grid", domain=MARKER_DOMAIN, **attributes)


def read_instead(graph: ir.Graph, old: ir.Value, new: ir.Value, readers: Sequence[tuple[ir.Node, int]]) -> None:
    """These readers of `old`, and the outside, read `new`; the outside keeps the name it knows."""
    for reader, index in readers:
        reader.replace_input_with(index, new)
    for index, output in enumerate(graph.outputs):
        if output is old:
            graph.outputs[index] = new
            old.name, new.name = f"{old.name}_float", old.name
