"""merge_parallel: parallel convolutions, each on its share of the channels, become one (MixNet's MixConv and grouped
1×1).

    x -> Slice_i -> FakeQuantize_i(s_i, β_i) -> Conv_i -> Concat
        =>  t = Conv(x; depthwise 1×1, s/s_i)
            FakeQuantize(t; s, β_i·s/s_i along the channels);  Conv(merged, weights · s_i/s)

Exact: a depthwise kernel gets zeros around it up to the size of the largest, 1×1 convolutions of equal shares become
groups, and a step s_i goes into the scales of weights, which are one for each channel anyway. What is left of the
grids' differences is an offset for each channel. equalize.py lets the layer before take the steps' ratios over,
channel_offsets.py places the offsets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from calib.folding.channel_grid import has_room
from lsq_export.graph.edit import clean, constant, insert, replace
from lsq_export.graph.grids import grid_of, quantizer_of
from lsq_export.graph.layers import bias_of, set_bias, set_weight, weight_codes, weight_of
from lsq_export.graph.notes import BITS, EQUALIZES, PARTS, Part
from lsq_export.graph.read import (
    MARKER,
    MARKER_DOMAIN,
    attribute,
    constant_of,
    input_of,
    is_marker,
    is_op,
    maker_of,
    sole_producer,
)
from lsq_export.graph.uniform import Window, uniform_depthwise
from lsq_export.rewrite.contract.conditions import FROZEN_WEIGHTS
from lsq_export.rewrite.contract.passes import Keeps, Pass, stateless


@dataclass(frozen=True, kw_only=True)
class Branch:
    """One of the convolutions: channels first … last - 1 of x go through slice, marker and conv."""

    first: int
    last: int
    slice: ir.Node
    marker: ir.Node
    conv: ir.Node

    @property
    def pads(self) -> list[int]:
        """top, left, bottom, right."""
        return list(attribute(self.conv, "pads", [0, 0, 0, 0]))


def merge_parallel(model: ir.Model) -> None:
    for node in list(model.graph):
        if is_op(node, "Concat") and attribute(node, "axis") == 1:
            branches = _branches(node)
            if branches and _mergeable(branches):
                _merge(model.graph, node, branches)
    clean(model)


def _branches(concat: ir.Node) -> list[Branch]:
    """The convolutions before a Concat, if they share out all channels of one tensor in order; otherwise nothing."""
    branches: list[Branch] = []
    for value in concat.inputs:
        conv = sole_producer(value, "Conv")
        marker = sole_producer(conv.inputs[0]) if conv is not None else None
        cut = sole_producer(marker.inputs[0], "Slice") if marker is not None and is_marker(marker) else None
        if conv is None or marker is None or cut is None:
            return []
        starts, ends, axes = (constant_of(v, str(cut.name)).tolist() for v in cut.inputs[1:4])
        expected = branches[-1].last if branches else 0
        other_source = branches and cut.inputs[0] is not branches[0].slice.inputs[0]
        if axes != [1] or starts != [expected] or other_source:
            return []
        branches.append(Branch(first=starts[0], last=ends[0], slice=cut, marker=marker, conv=conv))
    shape = input_of(branches[0].slice).shape
    whole = shape is not None and len(shape) == 4 and branches[-1].last == shape[1]
    return branches if whole and len(branches) > 1 else []


def _mergeable(branches: list[Branch]) -> bool:
    """Equal strides and code ranges, no dilation, kernels as wide beyond their pads; all depthwise or all dense.

    One grid has to have room for their offsets where one of them pads; of 8 bits it only has where all are alike.
    """
    alike = {
        (
            tuple(attribute(b.conv, "strides", [1, 1])),
            *(attribute(b.marker, name) for name in ("qmin", "qmax", "bits")),
            _width_beyond_pads(b),
        )
        for b in branches
    }
    plain = all(tuple(attribute(b.conv, "dilations", [1, 1])) == (1, 1) for b in branches)
    dense = all(attribute(b.conv, "group", 1) == 1 for b in branches)
    return len(alike) == 1 and plain and (_depthwise(branches) or dense) and _has_room(branches)


def _has_room(branches: list[Branch]) -> bool:
    grids = [grid_of(b.marker).unsigned() for b in branches]
    offsets = np.array([grid.offset / grid.scale for grid in grids])
    return not any(any(b.pads) for b in branches) or has_room(1.0, offsets, grids[0].qmax)


def _depthwise(branches: list[Branch]) -> bool:
    """Every channel of every branch has a group of its own, with the same number of outputs."""
    multipliers = {len(weight_codes(b.conv)[0]) / (b.last - b.first) for b in branches}
    return all(attribute(b.conv, "group", 1) == b.last - b.first for b in branches) and len(multipliers) == 1


def _width_beyond_pads(branch: Branch) -> tuple[int, ...]:
    """Kernel less pads, by axis: equal ones become one kernel when zeros take the place of pads."""
    pads, kernel = branch.pads, weight_codes(branch.conv)[0].shape[2:]
    return tuple(size - pads[axis] - pads[axis + 2] for axis, size in enumerate(kernel))


def _merge(graph: ir.Graph, concat: ir.Node, branches: list[Branch]) -> None:
    layer, x = str(concat.name).removesuffix(".Concat"), input_of(branches[0].slice)
    grids, sizes = [grid_of(b.marker) for b in branches], [b.last - b.first for b in branches]
    scale = grids[0].scale
    ratios = np.repeat([scale / g.scale for g in grids], sizes)  # [C]
    equalizer = uniform_depthwise(concat, x, f"{layer}.scaling", len(ratios))
    equalizer.outputs[0].shape = x.shape
    set_weight(equalizer, graph, weight_codes(equalizer)[0], ratios)
    EQUALIZES.write(equalizer, True)
    offsets = np.repeat([g.offset * scale / g.scale for g in grids], sizes)
    parameters = [
        constant(graph, f"{layer}.input.scale", np.float32(scale)),
        constant(graph, f"{layer}.input.offset", offsets),
    ]
    inputs = [equalizer.outputs[0], *parameters]
    x_hat = insert(concat, MARKER, inputs, f"{layer}.input", domain=MARKER_DOMAIN, shape=x.shape)
    marker = maker_of(x_hat)
    marker.attributes.update(branches[0].marker.attributes)
    marker.attributes["axis"] = ir.AttrInt64("axis", 1)
    marker.attributes["quantizer"] = ir.AttrString("quantizer", f"{layer}.input")
    parts = (
        Part(quantizer=quantizer_of(b.marker), channels=size, scale=grid.scale)
        for b, grid, size in zip(branches, grids, sizes, strict=True)
    )
    PARTS.write(marker, tuple(parts))
    replace(concat.outputs[0], _merged_conv(concat, layer, x_hat, branches, [g.scale / scale for g in grids]))


def _merged_conv(before: ir.Node, layer: str, x: ir.Value, branches: list[Branch], factors: list[float]) -> ir.Value:
    codes, group, pads = _merged_codes(branches)
    strides = tuple(attribute(branches[0].conv, "strides", [1, 1]))
    window = Window(kernel=codes.shape[2:], strides=strides, pads=tuple(pads))
    conv = uniform_depthwise(before, x, layer, len(codes), window=window)
    graph = before.graph
    assert isinstance(graph, ir.Graph)
    conv.attributes["group"] = ir.AttrInt64("group", group)
    weight = weight_of(conv).outputs[0]
    weight.shape = ir.Shape(codes.shape)
    BITS.write(weight, max(BITS.read(weight_of(b.conv).outputs[0]) for b in branches))
    scales = [weight_codes(b.conv)[1] * factor for b, factor in zip(branches, factors, strict=True)]
    set_weight(conv, graph, codes, np.concatenate(scales))
    set_bias(conv, graph, np.concatenate([bias_of(b.conv) for b in branches]))
    conv.outputs[0].shape = before.outputs[0].shape
    return conv.outputs[0]


def _merged_codes(branches: list[Branch]) -> tuple[np.ndarray, int, list[int]]:
    """(weight codes, groups, pads) of the one convolution."""
    pads = np.array([b.pads for b in branches])  # [branches, (top, left, bottom, right)]
    widest = pads.max(axis=0)
    codes = [
        np.pad(weight_codes(b.conv)[0], ((0, 0), (0, 0), *zip(*np.split(widest - own, 2), strict=True)))
        for b, own in zip(branches, pads, strict=True)
    ]
    if _depthwise(branches):
        group = branches[-1].last
    elif len({c.shape for c in codes}) == 1:
        group = len(branches)
    else:  # one dense convolution with zeros off the diagonal
        group, total = 1, branches[-1].last
        codes = [
            np.pad(c, ((0, 0), (b.first, total - b.last), (0, 0), (0, 0))) for c, b in zip(codes, branches, strict=True)
        ]
    return np.concatenate(codes), group, widest.tolist()


PASS = Pass("merge_parallel", stateless(merge_parallel), Keeps.VALUES, requires=(FROZEN_WEIGHTS,))
