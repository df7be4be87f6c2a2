"""Softmax is an island (graph/islands.py) on a grid on which ONNX Runtime may fuse it, or is kept from fusing it.

    FakeQuantize(Softmax(x); edge of scale s)  =>  QuantizeLinear(Softmax(x); 1/n, 0)
                                                   n = floor(1/s), at most 100 for each element of the sum
    FakeQuantize(Softmax(x); learned s, β)     =>  QuantizeLinear(Sum(Softmax(x)); s, Z)    (keep_float.py)

With graph optimization on, ONNX Runtime makes QLinearSoftmax of DequantizeLinear, Softmax and QuantizeLinear. That
multiplies by floor(1/S): it agrees with the float operator only where S is 1/n with a whole n, as float32 divides, and
a large n overflows. The order of its sums depends on the instruction set, so that some elements of a million differ
between machines: it is no integer form. Part of the passes edges.py and ties.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from calib.folding.edge_grid import EdgeGrid
from calib.rounding.candidates import MARGIN
from calib.rounding.ties import tie_distance
from lsq_export.graph.read import attribute, is_op, maker_of

# the kernel puts exp of the largest code at e^-5 = 1/148 of the largest float32 divided by the number of elements
ONE = np.float32(1)
LARGEST = 100


def is_softmax(value: ir.Value | None) -> bool:
    return value is not None and is_op(value.producer(), "Softmax")


def is_reciprocal(scale: float) -> bool:
    """Whether ONNX Runtime may fuse a Softmax on a grid of this scale: it is 1/n in float32."""
    return reciprocal_scale(scale) == scale


def reciprocal_scale(scale: float, readers: Sequence[float] = ()) -> float:
    """1/n in float32, not below `scale`, of which float32 makes n again.

    If there is one, it is clear of ties of the grids that read the codes. readers: scales of grids to which the codes
    are quantized directly.
    """
    most = max(1, int(np.floor(1 / scale * (1 + 1e-6))))
    whole = [n for n in range(most, 0, -1) if np.floor(ONE / (ONE / np.float32(n))) == n]
    steps = np.arange(256, dtype=np.float64)
    clear = (
        n
        for n in whole
        if all(tie_distance(steps * float(ONE / np.float32(n)) / reader, -255, 255) >= MARGIN for reader in readers)
    )
    return float(ONE / np.float32(next(clear, whole[0])))


def softmax_grid(grid: EdgeGrid, softmax: ir.Value) -> EdgeGrid:
    """The grid of an edge after a Softmax that ONNX Runtime may fuse."""
    axis = attribute(maker_of(softmax), "axis", -1)
    size = softmax.shape[axis] if softmax.shape is not None else None
    most = LARGEST * (size if isinstance(size, int) else 2)
    return EdgeGrid(reciprocal_scale(max(grid.scale, 1 / most)), 0, grid.error)
