"""Tanh(x) = 2σ(2x) - 1, and both 2s relabel grids.

    FakeQuantize(Tanh(x); edge)  =>  c = QuantizeLinear(Sigmoid(Mul(x, 2)); 1/254, 0);  DequantizeLinear(c; 2/254, 127)

Exact: 2·(c/254) - 1 = (c - 127)/127. Codes are 0 … 254; a clamp after the Tanh narrows them. Part of the passes
edges.py and offsets.py.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from calib.folding.edge_grid import EdgeGrid
from lsq_export.graph.edit import constant, insert
from lsq_export.graph.grids import quantizer_of
from lsq_export.graph.read import input_of, is_op, maker_of

STEPS = 127  # codes from 0 to 1
GRID = EdgeGrid(float(np.float32(1 / STEPS)), STEPS, 0.0)


def is_tanh(value: ir.Value | None) -> bool:
    return value is not None and is_op(value.producer(), "Tanh")


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
