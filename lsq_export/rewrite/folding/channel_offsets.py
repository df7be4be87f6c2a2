"""channel_offsets: a merged marker (mixed.py), whose channels have offsets of their own, becomes
QuantizeLinear/DequantizeLinear (E3-E5).

    FakeQuantize(Conv(x, w, b); s, β_c, 0 … p)
        =>  t = Conv(x, w, b - β_c);  q = Clip(QuantizeLinear(t; s, 0), 0, p)                                              (E3, exact)
            c = QuantizeLinear(Add(DequantizeLinear(q; s, 0), constant o_c·S); S, Z);  DequantizeLinear(c; S, Z)            padded consumer
            c = QuantizeLinear(DequantizeLinear(q; s, 1); S, o + k);  DequantizeLinear(c; S, o)                            none

    β_c = -Z·s for all channels (unspread.py)
        =>  c = Clip(QuantizeLinear(Conv(x, w, b); s, Z), 0, p);  DequantizeLinear(c; s, Z)

The sum is one integer addition, c = k·q + o_c. The consumer's bias takes (β_c - β'_c)·Σw (E4).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from calib.errors import QuantizationError
from calib.folding.channel_grid import ChannelGrid, channel_grid, common_grid
from calib.grid import Grid
from lsq_export.graph.build import attribute, constant, constant_of, insert, replace

from .decisions import TensorDecision, carried
from .equalize import offsets_of
from .qdq import carry_remainder, clip_codes, dequantize, is_padded, linear_consumers, quantize, spread
from .unspread import own_zero_point
from .weights import bias_of, layer_of, set_bias


def place_channel_offsets(graph: ir.Graph, marker: ir.Node) -> list[TensorDecision]:
    """One decision for each of the quantizers that were merged."""
    name, x = attribute(marker, "quantizer"), marker.inputs[0]
    assert x is not None
    producer = x.producer()
    assert producer is not None
    scale = float(constant_of(marker.inputs[1], name))
    offsets, qmax = (
        offsets_of(marker) + attribute(marker, "qmin") * scale,
        attribute(marker, "qmax") - attribute(marker, "qmin"),
    )
    consumers = linear_consumers(marker.outputs[0])
    padded = any(is_padded(c) for c in consumers)
    common = common_grid(scale, offsets, qmax)
    if common is not None and own_zero_point(Grid(scale, float(offsets[0]), 0, qmax), consumers):
        codes = clip_codes(
            graph, marker, quantize(graph, marker, x, scale, common.zero_point, f"{name}.codes"), 0, qmax, name
        )
        replace(marker.outputs[0], dequantize(graph, marker, codes, common.scale, common.zero_point, f"{name}.values"))
        graph.remove(marker, safe=True)
        return _decisions(marker, str(codes.name), scale, offsets, qmax, common, [], 0.0, padded=True)
    try:
        grid = channel_grid(scale, offsets, qmax, padded=padded)
    except QuantizationError as error:
        raise QuantizationError(f"{name}: {error}") from error
    set_bias(producer, graph, bias_of(producer) - offsets)
    codes = quantize(graph, marker, x, scale, 0, f"{name}.codes")
    if padded:
        values = _spread_apart(graph, marker, clip_codes(graph, marker, codes, 0, qmax, name), scale, grid, name)
        codes = quantize(graph, marker, values, grid.scale, grid.zero_point, f"{name}.strided")
    else:
        codes = spread(graph, marker, codes, scale, grid.scale, grid.zero_point + grid.stride, name)
    values = dequantize(graph, marker, codes, grid.scale, grid.zero_point, f"{name}.values")
    border = max((carry_remainder(graph, c, grid.remainders) for c in consumers), default=0.0)
    replace(marker.outputs[0], values)
    graph.remove(marker, safe=True)
    return _decisions(
        marker,
        str(codes.name),
        scale,
        offsets,
        qmax,
        grid,
        [layer_of(c) for c in consumers],
        border,
        padded=padded,
    )


def _spread_apart(
    graph: ir.Graph, before: ir.Node, codes: ir.Value, scale: float, grid: ChannelGrid, name: str
) -> ir.Value:
    """DequantizeLinear(q; s, 0) + (o_c - Z)·S, the constant in codes of its own, [C, 1, 1]."""
    steps = grid.origins - grid.zero_point
    lowest = min(0, int(steps.min()))
    apart = constant(graph, f"{name}.apart.codes", (steps - lowest).astype(np.uint8).reshape(-1, 1, 1))
    constant_values = dequantize(graph, before, apart, grid.scale, -lowest, f"{name}.apart")
    values = dequantize(graph, before, codes, scale, 0, f"{name}.steps")
    return insert(before, "Add", [values, constant_values], f"{name}.sums", shape=codes.shape)


def _decisions(
    marker: ir.Node,
    codes: str,
    scale: float,
    offsets: np.ndarray,
    qmax: int,
    grid: ChannelGrid,
    consumers: list[str],
    border: float,
    *,
    padded: bool,
) -> list[TensorDecision]:
    found, first = [], 0
    for part in marker.metadata_props["parts"].split(" "):
        quantizer, size, own_scale = part.rsplit(":", 2)
        factor = float(own_scale) / scale
        offset, remainder = float(offsets[first]), float(grid.remainders[first])
        decision = TensorDecision(
            name=quantizer,
            kind="activation",
            codes=codes,
            scale=float(own_scale),
            offset=offset * factor,
            levels=qmax + 1,
            # Without padding the biases carry all of it.
            offset_carried=(offset - remainder if padded else offset) * factor,
            error_steps=-remainder / scale if padded else 0.0,
            stride=grid.stride,
            origin=int(grid.origins[first]),
            container_scale=grid.scale * factor,
            zero_point=grid.zero_point,
            border=border,
            channels=(first, first + int(size)),
            **carried(remainder if consumers else 0.0, consumers),
        )
        found.append(decision)
        first += int(size)
    return found
