"""A merged marker (merge_parallel.py), whose channels have offsets of their own, becomes QuantizeLinear and
DequantizeLinear (E3-E5).

    FakeQuantize(Conv(x, w, b); s, β_c, 0 … p)
        =>  t = Conv(x, w, b - β_c);  q = Clip(QuantizeLinear(t; s, 0), 0, p)                               (E3, exact)
        then, where a padded layer reads it,
            c = QuantizeLinear(Add(DequantizeLinear(q; s, 0), constant o_c·S); S, Z);  DequantizeLinear(c; S, Z)
        and where none does,
            c = QuantizeLinear(DequantizeLinear(q; s, 1); S, o + k);  DequantizeLinear(c; S, o)

    β_c = -Z·s for all channels (unspread.py)
        =>  c = Clip(QuantizeLinear(Conv(x, w, b); s, Z), 0, p);  DequantizeLinear(c; s, Z)

The sum is one integer addition, c = k·q + o_c. The consumer's bias takes (β_c - β'_c)·Σw (E4). Part of the pass
offsets.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from calib.errors import QuantizationError
from calib.folding.channel_grid import ChannelGrid, channel_grid, common_grid
from calib.grid import Grid
from lsq_export.graph.edit import constant, insert, replace
from lsq_export.graph.grids import offsets_of, quantizer_of, scale_of
from lsq_export.graph.layers import bias_of, is_padded, layer_of, layers_reading, set_bias
from lsq_export.graph.notes import PARTS
from lsq_export.graph.read import attribute, input_of, maker_of
from lsq_export.rewrite.contract.decisions import TensorDecision, carried

from .qdq import carry_remainder, clip_codes, dequantize, quantize, spread
from .unspread import own_zero_point


def place_channel_offsets(graph: ir.Graph, marker: ir.Node) -> list[TensorDecision]:
    """One decision for each of the quantizers that were merged."""
    name, x, scale = quantizer_of(marker), input_of(marker), scale_of(marker)
    offsets = offsets_of(marker) + attribute(marker, "qmin") * scale
    qmax = attribute(marker, "qmax") - attribute(marker, "qmin")
    consumers = layers_reading(marker.outputs[0])
    padded = any(is_padded(c) for c in consumers)
    common = common_grid(scale, offsets, qmax)
    if common is not None and own_zero_point(Grid(scale, float(offsets[0]), 0, qmax), consumers):
        codes = quantize(graph, marker, x, scale, common.zero_point, f"{name}.codes")
        codes = clip_codes(graph, marker, codes, 0, qmax, name)
        values = dequantize(graph, marker, codes, common.scale, common.zero_point, f"{name}.values")
        return _finish(graph, marker, values, _decisions(marker, codes, common, [], 0.0, padded=True))
    try:
        grid = channel_grid(scale, offsets, qmax, padded=padded)
    except QuantizationError as error:
        raise QuantizationError(f"{name}: {error}") from error
    producer = maker_of(x)
    set_bias(producer, graph, bias_of(producer) - offsets)
    codes = quantize(graph, marker, x, scale, 0, f"{name}.codes")
    if padded:
        values = _spread_apart(graph, marker, clip_codes(graph, marker, codes, 0, qmax, name), scale, grid)
        codes = quantize(graph, marker, values, grid.scale, grid.zero_point, f"{name}.strided")
    else:
        codes = spread(graph, marker, codes, scale, grid.scale, grid.zero_point + grid.stride, name)
    values = dequantize(graph, marker, codes, grid.scale, grid.zero_point, f"{name}.values")
    border = max((carry_remainder(graph, c, grid.remainders) for c in consumers), default=0.0)
    layers = [layer_of(c) for c in consumers]
    return _finish(graph, marker, values, _decisions(marker, codes, grid, layers, border, padded=padded))


def _finish(
    graph: ir.Graph, marker: ir.Node, values: ir.Value, decisions: Iterator[TensorDecision]
) -> list[TensorDecision]:
    """The values take the place of the marker."""
    found = list(decisions)
    replace(marker.outputs[0], values)
    graph.remove(marker, safe=True)
    return found


def _spread_apart(graph: ir.Graph, marker: ir.Node, codes: ir.Value, scale: float, grid: ChannelGrid) -> ir.Value:
    """DequantizeLinear(q; s, 0) + (o_c - Z)·S, the constant in codes of its own, [C, 1, 1]."""
    name, steps = quantizer_of(marker), grid.origins - grid.zero_point
    lowest = min(0, int(steps.min()))
    apart = constant(graph, f"{name}.apart.codes", (steps - lowest).astype(np.uint8).reshape(-1, 1, 1))
    constant_values = dequantize(graph, marker, apart, grid.scale, -lowest, f"{name}.apart")
    values = dequantize(graph, marker, codes, scale, 0, f"{name}.steps")
    return insert(marker, "Add", [values, constant_values], f"{name}.sums", shape=codes.shape)


def _decisions(
    marker: ir.Node, codes: ir.Value, grid: ChannelGrid, consumers: list[str], border: float, *, padded: bool
) -> Iterator[TensorDecision]:
    scale, qmin = scale_of(marker), attribute(marker, "qmin")
    offsets, first = offsets_of(marker) + qmin * scale, 0
    for part in PARTS.read(marker):
        factor = part.scale / scale
        offset, remainder = float(offsets[first]), float(grid.remainders[first])
        yield TensorDecision(
            name=part.quantizer,
            kind="activation",
            codes=str(codes.name),
            scale=part.scale,
            offset=offset * factor,
            levels=attribute(marker, "qmax") - qmin + 1,
            # Without padding the biases carry all of it.
            offset_carried=(offset - remainder if padded else offset) * factor,
            error_steps=-remainder / scale if padded else 0.0,
            stride=grid.stride,
            origin=int(grid.origins[first]),
            container_scale=grid.scale * factor,
            zero_point=grid.zero_point,
            border=border,
            channels=(first, first + part.channels),
            **carried(remainder if consumers else 0.0, consumers),
        )
        first += part.channels
