"""tanh: Tanh(x) = 2σ(2x) - 1, and both 2s relabel grids.

    FakeQuantize(Tanh(x); edge)  =>  c = QuantizeLinear(Sigmoid(Mul(x, 2)); 1/254, 0);  DequantizeLinear(c; 2/254, 127)

Exact: 2·(c/254) - 1 = (c - 127)/127. Codes are 0 … 254; a clamp behind the Tanh narrows them.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from calib.folding.edge_grid import EdgeGrid
from lsq_export.graph.build import attribute, constant, insert, is_op

STEPS = 127  # codes from 0 to 1
GRID = EdgeGrid(float(np.float32(1 / STEPS)), STEPS, 0.0)


def is_tanh(value: ir.Value | None) -> bool:
    return value is not None and is_op(value.producer(), "Tanh")


def logistic_of(graph: ir.Graph, marker: ir.Node) -> ir.Value:
    """Sigmoid(2x), in front of the marker of Tanh(x);

    the grid of its codes has half of the marker's scale and the zero point 0.
    """
    tanh = marker.inputs[0].producer() if marker.inputs[0] is not None else None
    assert tanh is not None and tanh.inputs[0] is not None
    name = attribute(marker, "quantizer")
    two = constant(graph, f"{name}.two", np.float32(2))
    doubled = insert(marker, "Mul", [tanh.inputs[0], two], f"{name}.doubled", shape=tanh.inputs[0].shape)
    value = insert(marker, "Sigmoid", [doubled], f"{name}.logistic", shape=tanh.outputs[0].shape)
    made = value.producer()
    assert made is not None
    made.name = tanh.name
    return value
