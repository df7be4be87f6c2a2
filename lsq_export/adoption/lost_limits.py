"""Layers whose codes were narrower in training than their file says, as far as the file shows it.

Some exporters write codes of 4 bits into types of 8 without a Clip. Weights are stored, and show it; activations run
to the limits of their type in the file, and in training they ended earlier.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from lsq_export.graph.read import array_of, producer_of

from .grids import DEQUANTIZE, QUANTIZE, grid_of, is_grid
from .stored import found_in_floats, stored_in

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
NARROW, WIDE = 8, 256  # the largest code of 4 bits; how many codes a type of 8 bits has
ROWS = 4  # of float weights, which are looked at
FEWEST = 32  # weights from which on so many small codes are no accident


def without_limits(graph: ir.Graph) -> tuple[str, ...]:
    """Layers with weight codes in -8 … 8, in a type of 8 bits or none, whose inputs are all codes of such a type."""
    return tuple(
        str(node.name)
        for node in graph
        if node.op_type in LAYERS and _is_narrow(node.inputs[1]) and _is_wide(node.inputs[0])
    )


def _is_narrow(weight: ir.Value | None) -> bool:
    made, floats = producer_of(weight), array_of(weight)
    if floats is not None and floats.ndim >= 2:  # some tools store what their fake quantizers made
        stored = found_in_floats(floats[:ROWS])
    else:
        grid = grid_of(made) if made is not None and is_grid(made, DEQUANTIZE) else None
        stored = stored_in(weight) if grid is not None and grid.high - grid.low + 1 == WIDE else None
    return stored is not None and stored.codes.size >= FEWEST and bool(np.abs(stored.codes).max() <= NARROW)


def _is_wide(x: ir.Value | None) -> bool:
    """Values of codes that a QuantizeLinear makes, with nothing but the type to limit them."""
    dequantize = producer_of(x)
    made = producer_of(dequantize.inputs[0]) if dequantize is not None and is_grid(dequantize, DEQUANTIZE) else None
    grid = grid_of(made) if made is not None and is_grid(made, QUANTIZE) else None
    return grid is not None and grid.high - grid.low + 1 == WIDE
