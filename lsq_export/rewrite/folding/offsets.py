"""offsets: every marker becomes QuantizeLinear and DequantizeLinear with an integer zero point, and real offsets go
into biases (E3-E5).

After a Conv or Gemm, whose bias takes -β (E3):

    FakeQuantize(Conv(x, w, b); s, β, 0 … p)
        =>  t = Conv(x, w, b - β);  q = QuantizeLinear(t; s, 0)
            c = QuantizeLinear(DequantizeLinear(q; s, 1); s/k, o + k);  DequantizeLinear(c; s/k, Z)

q is exact; the second pair spreads q over the container, c = k·(q - 1) + o + k = k·q + o, and clips it to p (left out
where p = 255 and o = 0). The detour over zero point 1 keeps optimizers away that merge two pairs of QuantizeLinear and
DequantizeLinear with equal parameters into one (ONNX Runtime's DoubleQDQPairsRemover does, and changes the codes). The
values are s·q + β' with β' = (o - Z)·s/k; each consumer's bias takes (β - β')·Σw (E4), exact but for what a padded
border leaves out, at most |β - β'|·Σ|w|.

After an edge: Add(x, -β) takes the place of the bias, and the codes may stay 0 … p (unspread.py). An 8-bit grid after
anything else, an edge, and a grid whose offset is a multiple of its scale: QuantizeLinear(x; s, Z).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from calib.errors import QuantizationError
from calib.folding.containers import CONTAINER_MAX, StridedGrid, integral_zero_point, strided_grid, widen_to_zero
from calib.folding.symmetric import MIDDLE, symmetric_grid
from calib.grid import Grid
from calib.statistics.observers import Observer
from lsq_export.graph.edit import clean, insert, replace
from lsq_export.graph.grids import grid_of, is_edge, is_merged, quantizer_of
from lsq_export.graph.layers import bias_of, is_linear, is_padded, layer_of, layers_reading, set_bias
from lsq_export.graph.notes import FACTOR
from lsq_export.graph.operators import MOVES
from lsq_export.graph.read import input_of, is_marker, is_op, maker_of, producer_of
from lsq_export.rewrite.contract.conditions import NO_MARKERS
from lsq_export.rewrite.contract.decisions import Remainder, TensorDecision, carried
from lsq_export.rewrite.contract.passes import Keeps, Pass, State

from .center_grids import learned_grid
from .channel_offsets import place_channel_offsets
from .edges import EVERY_VALUE_ON_A_GRID, moves_to_integer_zero, on_grid
from .integer_offsets import place_integer
from .pads import pads_after, place_pad
from .qdq import carry_remainder, clip_codes, dequantize, parameters, quantize, repeat_grid, shift, spread
from .scaling import factor_of, relabel
from .tanh import is_tanh, logistic_of
from .unspread import own_codes, own_zero_point

NARROW_MAX = 127  # the largest p that the fold "integer" places on a grid of its own; 8-bit grids have one fold


def place_offsets(
    model: ir.Model, fold: str = "strided", statistics: Mapping[str, Observer] | None = None
) -> list[TensorDecision]:
    """statistics: {quantizer: what its input looked like}, for the fold "integer"."""
    graph = model.graph
    markers = [node for node in graph if is_marker(node)]
    decisions = [d for marker in markers for d in _place_any(graph, marker, fold, statistics or {})]
    for node in list(graph):
        if is_op(node, *MOVES):
            repeat_grid(node)
        elif factor_of(node) is not None:
            relabel(graph, node)
    clean(model)
    return decisions


def _place_any(graph: ir.Graph, marker: ir.Node, fold: str, statistics: Mapping[str, Observer]) -> list[TensorDecision]:
    if not is_merged(marker):
        pads = pads_after(marker.outputs[0])
        decision = _place(graph, marker, fold, statistics)
        for pad in pads:
            place_pad(graph, pad, decision)
        return [decision]
    if fold != "strided":
        raise QuantizationError(
            f"{quantizer_of(marker)}: convolutions side by side were merged for the strided fold; "
            "`lsq-export folds` compares it with others"
        )
    return place_channel_offsets(graph, marker)


def _place(graph: ir.Graph, marker: ir.Node, fold: str, statistics: Mapping[str, Observer]) -> TensorDecision:
    name, after_layer = quantizer_of(marker), is_linear(producer_of(marker.inputs[0]))
    consumers, grid = layers_reading(marker.outputs[0]), grid_of(marker).unsigned()
    if fold == "symmetric" and not is_edge(marker):
        learned = learned_grid(marker)
        if learned is not None:
            return _place_centered(graph, marker, learned)
        return _place_around_zero(graph, marker, grid, consumers)
    if is_edge(marker) or (not after_layer and moves_to_integer_zero(marker)):
        return _place_directly(graph, marker)
    if fold != "strided" and grid.qmax <= NARROW_MAX:
        return place_integer(graph, marker, grid, statistics.get(name), naive=fold == "naive")
    if own_zero_point(grid, consumers):
        return _place_directly(graph, marker)
    padded = any(is_padded(c) for c in consumers) or not consumers
    own = None if padded else own_codes(marker, grid, consumers)
    try:
        strided = own or strided_grid(grid, padded=padded)
    except QuantizationError as error:
        if moves_to_integer_zero(marker):
            return _place_directly(graph, marker)
        raise QuantizationError(f"{name}: {error}") from error
    x, zero_point = _carry_offset(graph, marker, grid, own)
    codes = quantize(graph, marker, x, grid.scale, zero_point, f"{name}.codes")
    if own is None and not strided.is_plain:
        codes = spread(graph, marker, codes, grid.scale, strided.scale, strided.origin + strided.stride, name)
    values = dequantize(graph, marker, codes, strided.scale, strided.zero_point, f"{name}.values")
    border = max([carry_remainder(graph, c, strided.remainder) for c in consumers], default=0.0)
    replace(marker.outputs[0], values)
    graph.remove(marker, safe=True)
    return _decision(name, codes, strided, consumers, border)


def _place_around_zero(graph: ir.Graph, marker: ir.Node, grid: Grid, consumers: list[ir.Node]) -> TensorDecision:
    """Spread with the zero point in the middle of the container (calib.folding.symmetric); a Clip ends the codes."""
    name = quantizer_of(marker)
    try:
        strided = symmetric_grid(grid)
    except QuantizationError as error:
        raise QuantizationError(f"{name}: {error}") from error
    x, zero_point = _carry_offset(graph, marker, grid, None)
    codes = quantize(graph, marker, x, grid.scale, zero_point, f"{name}.codes")
    codes = clip_codes(graph, marker, codes, 0, grid.qmax, f"{name}.codes")
    codes = spread(graph, marker, codes, grid.scale, strided.scale, strided.origin + strided.stride, name)
    values = dequantize(graph, marker, codes, strided.scale, strided.zero_point, f"{name}.values")
    border = max([carry_remainder(graph, c, strided.remainder) for c in consumers], default=0.0)
    replace(marker.outputs[0], values)
    graph.remove(marker, safe=True)
    return _decision(name, codes, strided, consumers, border)


def _carry_offset(graph: ir.Graph, marker: ir.Node, grid: Grid, own: StridedGrid | None) -> tuple[ir.Value, int]:
    """The producer carries the offset (E3): (what is quantized to the codes, their zero point)."""
    name, x = quantizer_of(marker), input_of(marker)
    producer, integral = x.producer(), integral_zero_point(grid)
    if producer is not None and is_linear(producer):
        set_bias(producer, graph, bias_of(producer) - grid.offset)
        return x, 0
    if integral is not None:
        return x, integral
    if on_grid(x):
        return shift(graph, marker, x, -grid.offset, name), own.origin if own is not None else 0
    raise QuantizationError(f"{name}: nothing before this grid can carry its offset")  # place_edges put an edge there


def _place_centered(graph: ir.Graph, marker: ir.Node, learned: Grid) -> TensorDecision:
    """A learned grid of 8 bits on the steps that `center_grids` gave it."""
    name, grid = quantizer_of(marker), grid_of(marker)
    codes = _codes_on(graph, marker, grid, grid.scale, MIDDLE)
    nearest = float(np.rint(learned.offset / grid.scale) * grid.scale)
    return TensorDecision(
        name=name,
        kind="activation",
        codes=str(codes.name),
        scale=learned.scale,
        offset=learned.offset,
        levels=learned.qmax + 1,
        offset_carried=nearest,
        error_steps=(nearest - learned.offset) / learned.scale,
        container_scale=grid.scale,
        zero_point=MIDDLE,
        remainder=Remainder.MOVED,
    )


def _place_directly(graph: ir.Graph, marker: ir.Node) -> TensorDecision:
    """QuantizeLinear with the grid's nearest integer zero point, which is exact for an edge.

    A narrowed grid is clipped on its codes.
    """
    name, edge = quantizer_of(marker), is_edge(marker)
    trained = grid_of(marker) if edge else grid_of(marker).unsigned()
    integral = not edge and integral_zero_point(trained) is not None
    grid = trained if edge or integral else widen_to_zero(trained)
    zero_point = int(np.rint(-grid.offset / grid.scale))
    scale = float(np.float32(grid.scale))
    codes = _codes_on(graph, marker, grid, scale, zero_point)
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


def _codes_on(graph: ir.Graph, marker: ir.Node, grid: Grid, scale: float, zero_point: int) -> ir.Value:
    """Put a pair on that grid in the place of a marker; returns the codes."""
    name, x = quantizer_of(marker), input_of(marker)
    shared = parameters(graph, name, scale, zero_point)  # by both of the pair: `ties` may still move the scale
    of_codes, factor = shared, 1.0
    if is_tanh(x):
        x, of_codes, factor = logistic_of(graph, marker), parameters(graph, f"{name}.logistic", scale / 2, 0), 2.0
    codes = insert(marker, "QuantizeLinear", [x, *of_codes], f"{name}.codes", shape=x.shape)
    if (grid.qmin, grid.qmax) != (0, CONTAINER_MAX):
        codes = clip_codes(graph, marker, codes, grid.qmin, grid.qmax, name)
    values = insert(marker, "DequantizeLinear", [codes, *shared], f"{name}.values", shape=x.shape)
    if factor != 1:
        FACTOR.write(maker_of(codes), factor)
        FACTOR.write(maker_of(values), factor)
    replace(marker.outputs[0], values)
    graph.remove(marker, safe=True)
    return codes


def _decision(
    name: str, codes: ir.Value, strided: StridedGrid, consumers: list[ir.Node], border: float
) -> TensorDecision:
    grid = strided.trained
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


def _run(model: ir.Model, state: State) -> None:
    state.tensors = place_offsets(model, state.fold, state.statistics)


PASS = Pass("place_offsets", _run, Keeps.CODES, requires=(EVERY_VALUE_ON_A_GRID,), ensures=(NO_MARKERS,))
