"""mixed: convolutions side by side, each on its share of the channels, become one convolution (MixNet's MixConv and
grouped 1×1 convolutions).

    x -> Slice_i -> FakeQuantize_i(s_i, β_i) -> Conv_i -> Concat
        =>  t = Conv(x; depthwise 1×1, s/s_i);  FakeQuantize(t; s, β_i·s/s_i along the channels);  Conv(merged, weights · s_i/s)

Exact: a depthwise kernel gets zeros around it up to the size of the largest, 1×1 convolutions of equal shares become
groups, and a step s_i goes into the scales of weights, which are one per channel anyway. What is left of the grids'
differences is an offset for each channel. equalize.py lets the layer in front take the steps' ratios over,
channel_offsets.py places the offsets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from lsq_export.graph.build import (
    MARKER,
    MARKER_DOMAIN,
    attribute,
    clean,
    constant,
    constant_of,
    insert,
    is_marker,
    is_op,
    replace,
    sole_producer,
)

from .clamps import grid_of
from .depthwise import uniform_depthwise
from .equalize import SCALING
from .weights import bias_of, set_bias, set_weight, weight_codes, weight_of


@dataclass(frozen=True)
class Part:
    """One of the convolutions: channels first … last - 1 of x go through slice, marker and conv."""

    first: int
    last: int
    slice: ir.Node
    marker: ir.Node
    conv: ir.Node


def merge_mixed(model: ir.Model) -> None:
    graph = model.graph
    for node in list(graph):
        if is_op(node, "Concat") and attribute(node, "axis") == 1:
            parts = _parts(node)
            if parts and _mergeable(parts):
                _merge(graph, node, parts)
    clean(model)


def _parts(concat: ir.Node) -> list[Part]:
    """The convolutions behind a Concat, if they share out all channels of one tensor in order; else nothing."""
    found: list[Part] = []
    for value in concat.inputs:
        conv = sole_producer(value, "Conv")
        marker = sole_producer(conv.inputs[0]) if conv is not None else None
        cut = sole_producer(marker.inputs[0], "Slice") if marker is not None and is_marker(marker) else None
        if conv is None or marker is None or cut is None:
            return []
        starts, ends, axes = (constant_of(v, str(cut.name)).tolist() for v in cut.inputs[1:4])
        expected = found[-1].last if found else 0
        if axes != [1] or starts != [expected] or (found and cut.inputs[0] is not found[0].slice.inputs[0]):
            return []
        found.append(Part(starts[0], ends[0], cut, marker, conv))
    x = found[0].slice.inputs[0]
    whole = x is not None and x.shape is not None and len(x.shape) == 4 and found[-1].last == x.shape[1]
    return found if whole and len(found) > 1 else []


def _mergeable(parts: list[Part]) -> bool:
    """Equal strides and code ranges, no dilation, kernels that reach as far beyond their pads;

    all depthwise or all dense.
    """
    same = {
        (
            tuple(attribute(p.conv, "strides", [1, 1])),
            attribute(p.marker, "qmin"),
            attribute(p.marker, "qmax"),
            _reach(p.conv),
        )
        for p in parts
    }
    plain = all(tuple(attribute(p.conv, "dilations", [1, 1])) == (1, 1) for p in parts)
    dense = all(attribute(p.conv, "group", 1) == 1 for p in parts)
    return (
        len(same) == 1
        and plain
        and (_depthwise(parts) or dense)
        and len({attribute(p.marker, "bits") for p in parts}) == 1
    )


def _depthwise(parts: list[Part]) -> bool:
    """Every channel of every part has a group of its own, with the same number of outputs."""
    multipliers = {len(weight_codes(p.conv)[0]) / (p.last - p.first) for p in parts}
    return all(attribute(p.conv, "group", 1) == p.last - p.first for p in parts) and len(multipliers) == 1


def _reach(conv: ir.Node) -> tuple[int, ...]:
    """Kernel less pads, by axis: equal ones become one kernel when zeros take the place of pads."""
    pads = attribute(conv, "pads", [0, 0, 0, 0])
    return tuple(size - pads[axis] - pads[axis + 2] for axis, size in enumerate(weight_codes(conv)[0].shape[2:]))


def _merge(graph: ir.Graph, concat: ir.Node, parts: list[Part]) -> None:
    layer = str(concat.name).removesuffix(".Concat")
    x, scale = parts[0].slice.inputs[0], grid_of(parts[0].marker).scale
    assert x is not None and x.shape is not None
    grids = [grid_of(p.marker) for p in parts]
    sizes = [p.last - p.first for p in parts]
    ratios = np.repeat([scale / g.scale for g in grids], sizes)  # [C]
    scaled = uniform_depthwise(graph, concat, x, f"{layer}.scaling", len(ratios), [1, 1], 1.0, [1, 1], [0, 0, 0, 0])
    scaled.shape, scaling = x.shape, scaled.producer()
    assert scaling is not None
    codes, _ = weight_codes(scaling)
    set_weight(scaling, graph, codes, ratios)
    scaling.metadata_props[SCALING] = "1"
    first = parts[0].marker
    parameters = [constant(graph, f"{layer}.input.scale", np.float32(scale))]
    parameters.append(
        constant(graph, f"{layer}.input.offset", np.repeat([g.offset * scale / g.scale for g in grids], sizes))
    )
    x_hat = insert(concat, MARKER, [scaled, *parameters], f"{layer}.input", domain=MARKER_DOMAIN, shape=x.shape)
    marker = x_hat.producer()
    assert marker is not None
    marker.attributes.update(first.attributes)
    marker.attributes["axis"], marker.attributes["quantizer"] = (
        ir.AttrInt64("axis", 1),
        ir.AttrString("quantizer", f"{layer}.input"),
    )
    marker.metadata_props["parts"] = " ".join(
        f"{attribute(p.marker, 'quantizer')}:{size}:{g.scale!r}" for p, g, size in zip(parts, grids, sizes, strict=True)
    )
    replace(concat.outputs[0], _merged_conv(graph, concat, layer, x_hat, parts, [g.scale / scale for g in grids]))


def _merged_conv(
    graph: ir.Graph, before: ir.Node, layer: str, x: ir.Value, parts: list[Part], factors: list[float]
) -> ir.Value:
    weights = [weight_codes(p.conv) for p in parts]
    pads = np.array([attribute(p.conv, "pads", [0, 0, 0, 0]) for p in parts])  # [parts, (top, left, bottom, right)]
    widest = pads.max(axis=0)
    codes = [
        np.pad(c, ((0, 0), (0, 0), *zip(*np.split(widest - own, 2), strict=True)))
        for (c, _), own in zip(weights, pads, strict=True)
    ]
    equal = len({c.shape for c in codes}) == 1
    if _depthwise(parts):
        group = parts[-1].last
    elif equal:
        group = len(parts)
    else:  # one dense convolution with zeros off the diagonal
        group, total = 1, parts[-1].last
        codes = [
            np.pad(c, ((0, 0), (p.first, total - p.last), (0, 0), (0, 0))) for c, p in zip(codes, parts, strict=True)
        ]
    values = np.concatenate(codes)
    stand_in = uniform_depthwise(
        graph,
        before,
        x,
        layer,
        len(values),
        list(values.shape[2:]),
        1.0,
        list(attribute(parts[0].conv, "strides", [1, 1])),
        widest.tolist(),
    )
    conv = stand_in.producer()
    assert conv is not None
    conv.attributes["group"] = ir.AttrInt64("group", group)
    weight_of(conv).outputs[0].shape = ir.Shape(values.shape)
    weight_of(conv).outputs[0].metadata_props["bits"] = str(
        max(int(weight_of(p.conv).outputs[0].metadata_props["bits"]) for p in parts)
    )
    set_weight(conv, graph, values, np.concatenate([s * f for (_, s), f in zip(weights, factors, strict=True)]))
    set_bias(conv, graph, np.concatenate([bias_of(p.conv) for p in parts]))
    stand_in.shape = before.outputs[0].shape
    return stand_in
