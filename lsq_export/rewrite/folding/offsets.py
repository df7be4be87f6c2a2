"""offsets: every marker becomes QuantizeLinear/DequantizeLinear with an integer zero point, and real offsets go into
biases (E3-E5).

Behind a Conv or Gemm, whose bias takes -β (E3):

    FakeQuantize(Conv(x, w, b); s, β, 0 … p)
        =>  t = Conv(x, w, b - β);  q = QuantizeLinear(t; s, 0)
            c = QuantizeLinear(DequantizeLinear(q; s, 1); s/k, o + k);  DequantizeLinear(c; s/k, Z)

q is exact; the second pair spreads q over the container, c = k·(q - 1) + o + k = k·q + o, and clips it to p (left out
where p = 255 and o = 0). The detour over zero point 1 keeps optimizers away that merge two
QuantizeLinear/DequantizeLinear pairs with equal parameters into one (ONNX Runtime's DoubleQDQPairsRemover does, and
changes the codes). The values are s·q + β' with β' = (o - Z)·s/k; each consumer's bias takes (β - β')·Σw (E4), exact
but for what a padded border leaves out, at most |β - β'|·Σ|w|.

Behind an edge: Add(x, -β) takes the place of the bias, and the codes may stay 0 … p (unspread.py). An 8-bit grid behind
anything else, an edge, and a grid whose offset is a multiple of its scale: QuantizeLinear(x; s, Z)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from calib.errors import QuantizationError
from calib.folding.containers import CONTAINER_MAX, StridedGrid, integral_zero_point, strided_grid, widen_to_zero
from calib.grid import Grid
from calib.statistics.observers import Observer
from lsq_export.graph.build import attribute, clean, insert, is_marker, is_op, make, replace
from lsq_export.rewrite.normalizing.normalize import CODE_PRESERVING, LINEAR

from .channel_offsets import place_channel_offsets
from .clamps import grid_of
from .decisions import Remainder, TensorDecision, carried
from .edges import moves_to_integer_zero, on_grid
from .integer_offsets import place_integer
from .pads import pads_behind, place_pad
from .qdq import (
    carry_remainder,
    clip_codes,
    dequantize,
    is_padded,
    linear_consumers,
    parameters,
    quantize,
    shift,
    spread,
)
from .scaling import FACTOR, factor_of, relabel
from .tanh import is_tanh, logistic_of
from .unspread import own_codes, own_zero_point
from .weights import bias_of, layer_of, set_bias

FOLDS = ("strided", "integer")  # and "naive", for comparison only
NARROW_MAX = 127  # the largest p that the fold "integer" places on a grid of its own; 8-bit grids have one fold


def place_offsets(
    model: ir.Model, fold: str = "strided", statistics: Mapping[str, Observer] | None = None
) -> list[TensorDecision]:
    """statistics: {quantizer: what its input looked like}, for the fold "integer"."""
    graph = model.graph
    decisions = [d for node in list(graph) if is_marker(node) for d in _place_any(graph, node, fold, statistics or {})]
    for node in list(graph):
        if is_op(node, *CODE_PRESERVING):
            _repeat_grid(node)
        elif factor_of(node) is not None:
            relabel(graph, node)
    clean(model)
    return decisions


def _place_any(graph: ir.Graph, marker: ir.Node, fold: str, statistics: Mapping[str, Observer]) -> list[TensorDecision]:
    if attribute(marker, "axis") != 1:
        pads = pads_behind(marker.outputs[0])
        decision = _place(graph, marker, fold, statistics)
        for pad in pads:
            place_pad(graph, pad, decision)
        return [decision]
    if fold != "strided":
        name = attribute(marker, "quantizer")
        raise QuantizationError(
            f"{name}: convolutions side by side were merged for the strided fold; `lsq-export folds` compares it with "
            "others"
        )
    return place_channel_offsets(graph, marker)


def _place(graph: ir.Graph, marker: ir.Node, fold: str, statistics: Mapping[str, Observer]) -> TensorDecision:
    name, x = attribute(marker, "quantizer"), marker.inputs[0]
    assert x is not None
    producer = x.producer()
    linear = producer is not None and is_op(producer, *LINEAR)
    if attribute(marker, "kind") == "edge" or (not linear and moves_to_integer_zero(marker)):
        return _direct(graph, marker, name)
    consumers = linear_consumers(marker.outputs[0])
    padded = any(is_padded(c) for c in consumers) or not consumers
    grid = grid_of(marker).unsigned()
    if fold != "strided" and grid.qmax <= NARROW_MAX:
        return place_integer(graph, marker, grid, statistics.get(name), naive=fold == "naive")
    integral = integral_zero_point(grid)
    if integral is not None and own_zero_point(grid, consumers):
        return _direct(graph, marker, name)
    own = None if padded else own_codes(marker, grid, consumers)
    try:
        strided = own or strided_grid(grid, padded=padded)
    except QuantizationError as error:
        if moves_to_integer_zero(marker):
            return _direct(graph, marker, name)
        raise QuantizationError(f"{name}: {error}") from error
    zero_point = 0
    if linear:
        assert producer is not None
        set_bias(producer, graph, bias_of(producer) - grid.offset)
    elif integral is not None:
        zero_point = integral
    elif on_grid(x):
        x = shift(graph, marker, x, -grid.offset, name)
        zero_point = own.origin if own is not None else 0
    else:
        raise QuantizationError(
            f"{name}: nothing in front of this grid can carry its offset"
        )  # place_edges put an edge there
    codes = quantize(graph, marker, x, strided.trained.scale, zero_point, f"{name}.codes")
    if own is None and not strided.is_plain:
        codes = spread(
            graph, marker, codes, strided.trained.scale, strided.scale, strided.origin + strided.stride, name
        )
    values = dequantize(graph, marker, codes, strided.scale, strided.zero_point, f"{name}.values")
    border = max([carry_remainder(graph, c, strided.remainder) for c in consumers], default=0.0)
    replace(marker.outputs[0], values)
    graph.remove(marker, safe=True)
    return _decision(name, codes, strided, consumers, border)


def _direct(graph: ir.Graph, marker: ir.Node, name: str) -> TensorDecision:
    """QuantizeLinear with the grid's nearest integer zero point;

    for an edge it is exact. A narrowed grid is clipped on its codes.
    """
    trained = grid_of(marker)
    edge = attribute(marker, "kind") == "edge"
    if not edge:
        trained = trained.unsigned()
    integral = not edge and integral_zero_point(trained) is not None
    grid = trained if edge or integral else widen_to_zero(trained)
    zero_point = int(np.rint(-grid.offset / grid.scale))
    scale = float(np.float32(grid.scale))
    x = marker.inputs[0]
    assert x is not None
    shared = parameters(graph, name, scale, zero_point)  # shared: `ties` may still move the scale
    made, factor = shared, 1.0
    if is_tanh(x):
        x, made, factor = logistic_of(graph, marker), parameters(graph, f"{name}.logistic", scale / 2, 0), 2.0
    codes = insert(marker, "QuantizeLinear", [x, *made], f"{name}.codes", shape=x.shape)
    if (grid.qmin, grid.qmax) != (0, CONTAINER_MAX):
        codes = clip_codes(graph, marker, codes, grid.qmin, grid.qmax, name)
    values = insert(marker, "DequantizeLinear", [codes, *shared], f"{name}.values", shape=x.shape)
    if factor != 1:
        codes.producer().metadata_props[FACTOR] = repr(factor)  # type: ignore[union-attr]
        values.producer().metadata_props[FACTOR] = repr(factor)  # type: ignore[union-attr]
    replace(marker.outputs[0], values)
    graph.remove(marker, safe=True)
    offset = -zero_point * scale
    return TensorDecision(
        name=name,
        kind="edge" if edge else "activation",
        codes=str(codes.name),
        scale=trained.scale,
        offset=trained.offset,
        levels=grid.qmax - grid.qmin + 1,
        offset_carried=offset,
        error_steps=(offset - trained.offset) / trained.scale,
        container_scale=scale,
        zero_point=zero_point,
        remainder=Remainder.NONE if edge or integral else Remainder.MOVED,
    )


def _decision(
    name: str, codes: ir.Value, strided: StridedGrid, consumers: list[ir.Node], border: float
) -> TensorDecision:
    grid: Grid = strided.trained
    return TensorDecision(
        name=name,
        kind="activation",
        codes=str(codes.name),
        scale=grid.scale,
        offset=grid.offset,
        levels=grid.qmax + 1,
        offset_carried=strided.offset,
        error_steps=-strided.remainder / grid.scale,
        stride=strided.stride,
        origin=strided.origin,
        container_scale=strided.scale,
        zero_point=strided.zero_point,
        border=border,
        **carried(strided.remainder, [layer_of(c) for c in consumers]),
    )


def _repeat_grid(node: ir.Node) -> None:
    """DequantizeLinear(c) -> MaxPool  =>  … -> QuantizeLinear -> DequantizeLinear on the same grid behind it, as
    compilers expect.
    """
    source = node.inputs[0].producer() if node.inputs[0] is not None else None
    if not is_op(source, "DequantizeLinear"):
        raise QuantizationError(f"{node.name}: nothing in front of this {node.op_type} put its input onto a grid")
    assert source is not None and node.graph is not None
    parameters = source.inputs[1:]
    y = node.outputs[0]
    readers, is_output = list(y.uses()), y.is_graph_output()
    quantize = make("QuantizeLinear", [y, *parameters], f"{y.name}.codes", shape=y.shape)
    dequantize = make("DequantizeLinear", [quantize.outputs[0], *parameters], f"{y.name}.values", shape=y.shape)
    node.graph.insert_after(node, [quantize, dequantize])
    for reader, index in readers:
        reader.replace_input_with(index, dequantize.outputs[0])
    if is_output:
        for index, output in enumerate(node.graph.outputs):
            if output is y:
                node.graph.outputs[index] = dequantize.outputs[0]
                dequantize.outputs[0].name, y.name = y.name, f"{y.name}_moved"
