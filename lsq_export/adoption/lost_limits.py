"""Layers whose codes were narrower in training than their file says, as far as the file shows it.

Some exporters write codes of 4 bits into types of 8 without a Clip. Weights are stored, and show it; activations run
to the limits of their type in the file, and in training they ended earlier.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from lsq_export.graph.read import array_of, producer_of

from .grids import DEQUANTIZE, QUANTIZE, grid_of, is_grid
from .layers import LAYERS, LEVELS
from .stored import found_in_floats, stored_in

NARROW = 8  # the largest code of 4 bits
ROWS = 4  # of float weights, which are looked at
FEWEST = 32  # weights from which on so many small codes are no accident


def without_limits(graph: ir.Graph) -> tuple[str, ...]:
    """Layers with weight codes in -8 … 8, in a type of 8 bits or none, whose inputs are all codes of such a type."""
    return tuple(
        str(node.name)
        for node in graph
        if node.op_type in LAYERS and _is_wide(node.inputs[0]) and _is_narrow(node.inputs[1])
    )


def _is_narrow(weight: ir.Value | None) -> bool:
    floats = array_of(weight)
    if floats is not None and floats.ndim >= 2:  # some tools store what their fake quantizers made
        stored = found_in_floats(floats[:ROWS])
    else:
        stored = stored_in(weight) if _fills_its_type(producer_of(weight), DEQUANTIZE) else None
    return stored is not None and stored.codes.size >= FEWEST and bool(np.abs(stored.codes).max() <= NARROW)


def _is_wide(x: ir.Value | None) -> bool:
    """Values of codes that a QuantizeLinear makes, with nothing but the type to limit them."""
    node = producer_of(x)
    return node is not None and is_grid(node, DEQUANTIZE) and _fills_its_type(producer_of(node.inputs[0]), QUANTIZE)


def _fills_its_type(node: ir.Node | None, op_type: str) -> bool:
    """An operator of this type, on codes of a type of 8 bits."""
    grid = grid_of(node) if node is not None and is_grid(node, op_type) else None
    return grid is not None and grid.high - grid.low + 1 == LEVELS
