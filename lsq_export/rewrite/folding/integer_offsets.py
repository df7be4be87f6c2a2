"""A low-bit marker on hardware whose zero point is one of the 2^b codes (the fold "integer",
calib/folding/integer_grid.py).

    FakeQuantize(Conv(x, w, b); s, β, 0 … p)
        =>  t = Conv(x, w·S/s, (b - β)·S/s - S·Z);  c = Clip(QuantizeLinear(t; S, Z), 0, p);  DequantizeLinear(c; S, Z)

The codes are exact: t/S + Z = (y - β)/s. The values S·(c - Z) miss the real ones by δ, which the consumers' biases
carry (E4). QuantizeLinear and DequantizeLinear have equal parameters, as compilers expect. After anything else S stays
s, and Add(x, -β - s·Z) takes the place of the bias, unless that is zero.

"naive" is what exporters do, for comparison: QuantizeLinear(y; s, round(-β/s)), and nobody carries β. Part of the pass
offsets.py.
"""

from __future__ import annotations

import onnx_ir as ir

from calib.errors import QuantizationError
from calib.folding.containers import integral_zero_point
from calib.folding.integer_grid import IntegerGrid, integer_grid, naive_grid
from calib.grid import Grid
from calib.statistics.observers import Observer
from lsq_export.graph.edit import insert, replace
from lsq_export.graph.grids import grid_of, is_merged, quantizer_of
from lsq_export.graph.layers import (
    bias_of,
    is_linear,
    layer_of,
    layers_reading,
    outside_share,
    scale_weight,
    set_bias,
)
from lsq_export.graph.read import input_of
from lsq_export.rewrite.contract.decisions import Remainder, TensorDecision, carried

from .qdq import carry_remainder, clip_codes, parameters, shift


def place_integer(
    graph: ir.Graph, marker: ir.Node, grid: Grid, statistics: Observer | None, *, naive: bool
) -> TensorDecision:
    """grid: unsigned. statistics: what the input of the grid looked like, if that matters."""
    name, x = quantizer_of(marker), input_of(marker)
    producer = x.producer()
    layer = producer if producer is not None and is_linear(producer) else None
    consumers = layers_reading(marker.outputs[0])
    placed = naive_grid(grid) if naive else _choose(name, grid, statistics, consumers, fixed_scale=layer is None)
    if not naive:
        x = _carry_offset(graph, marker, x, layer, placed)
    shared = parameters(graph, name, placed.scale, placed.zero_point)
    codes = insert(marker, "QuantizeLinear", [x, *shared], f"{name}.codes", shape=x.shape)
    codes = clip_codes(graph, marker, codes, 0, grid.qmax, name)
    values = insert(marker, "DequantizeLinear", [codes, *shared], f"{name}.values", shape=x.shape)
    border = max([carry_remainder(graph, c, placed.remainder) for c in consumers], default=0.0)
    replace(marker.outputs[0], values)
    graph.remove(marker, safe=True)
    layers = [layer_of(c) for c in consumers]
    remainder = {"remainder": Remainder.DROPPED} if naive else carried(placed.remainder if layers else 0.0, layers)
    return TensorDecision(
        name=name,
        kind="activation",
        codes=str(codes.name),
        scale=grid.scale,
        offset=grid.offset,
        levels=grid.qmax + 1,
        offset_carried=placed.offset,
        error_steps=(placed.offset - grid.offset) / grid.scale,
        container_scale=placed.scale,
        zero_point=placed.zero_point,
        border=border,
        **remainder,
    )


def asks_for_data(marker: ir.Node) -> bool:
    """What the grid of this marker becomes depends on what its input looks like.

    Merged convolutions never take this fold.
    """
    return not is_merged(marker) and _asks_for_data(grid_of(marker), layers_reading(marker.outputs[0]))


def _asks_for_data(grid: Grid, consumers: list[ir.Node]) -> bool:
    """A padded convolution reads the grid, and real zero is on none of its codes."""
    return integral_zero_point(grid) is None and any(outside_share(c) for c in consumers)


def _choose(
    name: str, grid: Grid, statistics: Observer | None, consumers: list[ir.Node], *, fixed_scale: bool
) -> IntegerGrid:
    if statistics is None and _asks_for_data(grid, consumers):
        raise QuantizationError(f"{name}: the fold integer needs calibration data for this grid")
    outside = max([outside_share(c) for c in consumers], default=0.0)
    points = statistics.points() if statistics is not None else None
    return integer_grid(grid, points, outside, fixed_scale=fixed_scale)


def _carry_offset(
    graph: ir.Graph, marker: ir.Node, x: ir.Value, layer: ir.Node | None, placed: IntegerGrid
) -> ir.Value:
    """x becomes t, with t/S + Z = (x - β)/s."""
    trained = placed.trained
    if layer is None:
        if integral_zero_point(trained) == placed.zero_point:
            return x
        by = -trained.offset - placed.scale * placed.zero_point
        return shift(graph, marker, x, by, quantizer_of(marker))
    ratio = placed.scale / trained.scale
    bias = (bias_of(layer) - trained.offset) * ratio - placed.scale * placed.zero_point
    scale_weight(layer, graph, ratio)
    set_bias(layer, graph, bias)
    return x
