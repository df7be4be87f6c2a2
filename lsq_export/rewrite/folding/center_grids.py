"""center_grids: 8-bit grids get their zero point into the middle of the container, for hardware without zero points.

    FakeQuantize(x; S, β, n … p), 8 bits  =>  FakeQuantize(x; S', -128·S', n' … p')     S' = largest magnitude / 127

Grids of edges and learned ones of 8 bits: coarser by a factor of up to two, which the third promise measures. What is
clamped by the end of a container is clamped by its codes n' … p' then. Grids of fewer bits stay: `offsets` spreads
their codes around zero (calib.folding.symmetric), and their β is not lost.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from calib.folding.symmetric import around_zero
from calib.grid import Grid
from lsq_export.graph.edit import clean, constant
from lsq_export.graph.grids import grid_of, is_edge, is_merged, quantizer_of
from lsq_export.graph.read import attribute, input_of, is_marker
from lsq_export.rewrite.contract.passes import Keeps, Pass, stateless

from .tanh import is_tanh

NARROW_MAX = 127  # the largest p of a grid that is spread
LEARNED = "learned"  # attribute of a marker that was moved: s, β and the number of codes that it had


def move_to_middle(model: ir.Model) -> None:
    """Of all markers of activations that have 8 bits."""
    graph = model.graph
    for marker in [node for node in graph if is_marker(node) and not is_merged(node)]:
        grid = grid_of(marker).unsigned()
        if is_tanh(input_of(marker)) or (grid.qmax <= NARROW_MAX and not is_edge(marker)):
            continue
        centered, name = around_zero(grid), quantizer_of(marker)
        levels = grid.qmax - grid.qmin + 1
        marker.attributes[LEARNED] = ir.AttrFloat32s(LEARNED, [grid.scale, grid.offset, levels])
        marker.replace_input_with(1, constant(graph, f"{name}.centered_scale", np.float32(centered.scale)))
        marker.replace_input_with(2, constant(graph, f"{name}.centered_offset", np.float64(centered.offset)))
        marker.attributes["qmin"] = ir.AttrInt64("qmin", centered.qmin)
        marker.attributes["qmax"] = ir.AttrInt64("qmax", centered.qmax)
    clean(model)


def learned_grid(marker: ir.Node) -> Grid | None:
    """The unsigned grid of a marker before it was moved; None where it was not."""
    learned = attribute(marker, LEARNED)
    return None if learned is None else Grid(learned[0], learned[1], 0, round(learned[2]) - 1)


PASS = Pass(
    "center_grids",
    stateless(move_to_middle),
    Keeps.NOTHING,
    because="grids of 8 bits become coarser",
)
