"""softmax: the grid on which ONNX Runtime's QLinearSoftmax is exact.

The kernel multiplies by floor(1/S), so that S must be 1/n with a whole n, as float32 divides; its zero point is 0.

    FakeQuantize(Softmax(x); edge of scale s)  =>  QuantizeLinear(Softmax(x); 1/n, 0)      n = floor(1/s)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from calib.edges import EdgeGrid
from calib.ties import MARGIN, tie_distance

from ..graph import is_op

ONE = np.float32(1)


def is_softmax(value: ir.Value | None) -> bool:
    return value is not None and is_op(value.producer(), "Softmax")


def reciprocal_scale(scale: float, readers: Sequence[float] = ()) -> float:
    """1/n in float32, not below `scale`, of which float32 makes n again; clear of ties of the grids that read the codes, if one is.

    readers: scales of grids to which the codes are quantized directly.
    """
    most = max(1, int(np.floor(1 / scale * (1 + 1e-6))))
    whole = [n for n in range(most, 0, -1) if np.floor(ONE / (ONE / np.float32(n))) == n]
    steps = np.arange(256, dtype=np.float64)
    clear = (n for n in whole if all(tie_distance(steps * float(ONE / np.float32(n)) / reader, -255, 255) >= MARGIN for reader in readers))
    return float(ONE / np.float32(next(clear, whole[0])))


def softmax_grid(grid: EdgeGrid) -> EdgeGrid:
    return EdgeGrid(reciprocal_scale(grid.scale), 0, grid.error)
