"""unspread: a low-bit grid behind an edge that keeps its own codes 0 … p, where spreading them over the container (E5) would buy nothing.

    q = QuantizeLinear(Add(DequantizeLinear(e; S_e, Z_e), -β); s, 0);  DequantizeLinear(q; s, 0)

Spreading does three things: it clips at p, it puts real zero on the grid for a padded consumer, and it makes the unit of the consumers' biases
k times finer. It is left out where the edge's 256 codes end below p + 1/2 (calib.edges.aligned_grid sees to that), no consumer pads, and the biases,
which carry all of β (E4), are fine enough without it.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from calib.fold import CONTAINER_MAX, StridedGrid, weight_gain
from calib.grid import Grid

from ..graph import attribute, constant_of, is_marker, is_op
from .pads import pads_behind
from .tie_values import grid_of_codes
from .weights import weight_codes

ROOM = 0.45  # steps beyond p where codes still round to p; less than 1/2, since `ties` moves the edge's scale and the shift by a hair
MOVED = 1.005  # by so much at most
UNIT_ON_EDGE, UNIT_ON_CODES = 1 / 4, 1 / 64  # the coarsest unit of a bias, in steps of the 8-bit or of the learned grid behind the consumer


def own_codes(marker: ir.Node, grid: Grid, consumers: list[ir.Node]) -> StridedGrid | None:
    """The codes of a learned unsigned grid as they are, or None where they have to be spread."""
    assert marker.inputs[0] is not None
    edge = marker.inputs[0].producer()
    if not consumers or pads_behind(marker.outputs[0]) or edge is None or not is_op(edge, "DequantizeLinear"):
        return None
    scale, zero_point = grid_of_codes(edge)
    highest = ((CONTAINER_MAX - zero_point) * scale * MOVED - grid.offset) / grid.scale
    if highest > grid.qmax + ROOM or not all(_fine_enough(c, grid.scale) for c in consumers):
        return None
    return StridedGrid(grid, 1, 0, float(np.float32(grid.scale)), 0)


def _fine_enough(consumer: ir.Node, input_scale: float) -> bool:
    codes, scale = weight_codes(consumer)
    unit = float(input_scale * np.max(scale)) / weight_gain(codes)
    readers = list(consumer.outputs[0].consumers())
    if not readers or not all(is_marker(r) and len(r.inputs) == 3 for r in readers):
        return False
    steps = [_step(r) * (UNIT_ON_EDGE if attribute(r, "kind") == "edge" else UNIT_ON_CODES) for r in readers]
    return unit <= min(steps)


def _step(marker: ir.Node) -> float:
    return float(constant_of(marker.inputs[1], attribute(marker, "quantizer")).min())
