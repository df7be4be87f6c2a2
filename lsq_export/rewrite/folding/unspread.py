"""Low-bit grids that keep their own codes 0 … p, where spreading them over the container (E5) would buy nothing.

    after an edge:        c = QuantizeLinear(Add(DequantizeLinear(e; S_e, Z_e), -β); s, o);  DequantizeLinear(c; s, o)
                          c = q + o
    β a multiple of s:    q = Clip(QuantizeLinear(x; s, Z), 0, p);  DequantizeLinear(q; s, Z)           Z = -β/s

Spreading does three things: it clips at p, it puts real zero on the grid for a padded consumer, and it makes the unit
of the consumers' biases k times finer. It is left out where the biases are fine enough without it and

- the edge's values end below p + 1/2 (calib.folding.edge_grid.aligned_grid sees to that; o = 0), or begin above -1/2,
  and the container's top is the clip at p (o = 255 - p), and no consumer pads: the biases carry all of β (E4);
- or training kept β on multiples of s, so that real zero is one of the codes. A Clip of codes takes half the time of
  spreading them.

Part of the passes offsets.py.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from calib.folding.containers import CONTAINER_MAX, StridedGrid, integral_zero_point
from calib.grid import Grid
from lsq_export.graph.grids import is_edge, scale_of
from lsq_export.graph.layers import gain_of, weight_codes
from lsq_export.graph.read import input_of, is_marker, is_op

from .pads import pads_after
from .reach import reach

# Steps beyond p where codes still round to p; less than 1/2, since `ties` moves the edge's scale and the shift a bit.
ROOM = 0.45
MOVED = 0.005  # of a value: by so much at most
# The coarsest unit of a bias, in steps of the 8-bit or of the learned grid after the consumer.
UNIT_ON_EDGE, UNIT_ON_CODES = 1 / 4, 1 / 64


def own_codes(marker: ir.Node, grid: Grid, consumers: list[ir.Node]) -> StridedGrid | None:
    """The codes of a learned unsigned grid as they are, or None where they have to be spread."""
    x = input_of(marker)
    edge = x.producer()
    if not consumers or pads_after(marker.outputs[0]) or edge is None or not is_op(edge, "DequantizeLinear"):
        return None
    low, high = reach(x)
    lowest, highest = ((end - grid.offset) / grid.scale for end in (low - MOVED * abs(low), high + MOVED * abs(high)))
    beyond_both_ends = lowest < -ROOM and highest > grid.qmax + ROOM
    if beyond_both_ends or not all(_fine_enough(c, grid.scale) for c in consumers):
        return None
    origin = 0 if highest <= grid.qmax + ROOM else CONTAINER_MAX - grid.qmax
    return StridedGrid(grid, 1, origin, float(np.float32(grid.scale)), origin)


def own_zero_point(grid: Grid, consumers: list[ir.Node]) -> bool:
    """A grid whose offset is a multiple of its scale keeps its codes, with real zero among them."""
    return integral_zero_point(grid) is not None and all(_fine_enough(c, grid.scale) for c in consumers)


def _fine_enough(consumer: ir.Node, input_scale: float) -> bool:
    _, scale = weight_codes(consumer)
    unit = float(input_scale * np.max(scale)) / gain_of(consumer)
    readers = list(consumer.outputs[0].consumers())
    if not readers or not all(is_marker(r) and len(r.inputs) == 3 for r in readers):
        return False
    return unit <= min(scale_of(r) * (UNIT_ON_EDGE if is_edge(r) else UNIT_ON_CODES) for r in readers)
