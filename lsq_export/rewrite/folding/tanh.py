"""Tanh(x) = 2σ(2x) - 1, and both 2s relabel grids.

    FakeQuantize(Tanh(x); edge)  =>  c = QuantizeLinear(Sigmoid(Mul(x, 2)); 1/254, 0);  DequantizeLinear(c; 2/254, 127)

Exact: 2·(c/254) - 1 = (c - 127)/127. Codes are 0 … 254; a clamp after the Tanh narrows them. Part of the passes
edges.py and offsets.py.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from calib.folding.containers import integral_zero_point
from calib.folding.edge_grid import TANH
from lsq_export.graph.edit import constant, insert
from lsq_export.graph.grids import grid_of, quantizer_of
from lsq_export.graph.read import input_of, is_op, maker_of

SCALE = 1e-6  # relative: what float32 and a checkpoint's type leave of the scale


def is_tanh(value: ir.Value | None) -> bool:
    return value is not None and is_op(value.producer(), "Tanh")


def on_its_grid(marker: ir.Node) -> bool:
    """Whether a learned marker has the one grid that the codes of a Tanh can have, as training gives it."""
    grid = grid_of(marker).unsigned()
    near = abs(grid.scale - TANH.scale) <= SCALE * TANH.scale
    return near and integral_zero_point(grid) == TANH.zero_point


def logistic_of(graph: ir.Graph, marker: ir.Node) -> ir.Value:
    """Sigmoid(2x), before the marker of Tanh(x).

    The grid of its codes has half of the marker's scale and the zero point 0.
    """
    tanh = maker_of(input_of(marker))
    x, name = input_of(tanh), quantizer_of(marker)
    two = constant(graph, f"{name}.two", np.float32(2))
    doubled = insert(marker, "Mul", [x, two], f"{name}.doubled", shape=x.shape)
    value = insert(marker, "Sigmoid", [doubled], f"{name}.logistic", shape=tanh.outputs[0].shape)
    maker_of(value).name = tanh.name
    return value
