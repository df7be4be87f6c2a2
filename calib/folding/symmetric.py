"""Grids for hardware without zero points: signed codes of 8 bits in which 0 is real zero.

    codes q = 0 … p of a trained grid s·q + β    =>    c = k·q + m  in -128 … 127,    S = s/k,    m = round(k·β/s)

That is spreading (E5) with the zero point in the middle of the container, and so with about half of the steps k. What
is left of β, at most s/(2k), the biases of the consumers carry (E4): the codes q stay those that were trained. 256
codes have no room for that, unless real zero is in their middle: an 8-bit grid gets other steps, which cost something.
"""

from __future__ import annotations

import numpy as np

from calib.errors import QuantizationError
from calib.grid import Grid, zero_point_of

from .containers import CONTAINER_MAX, StridedGrid, spread_scale

MIDDLE = 128  # the zero point of UINT8 codes that stands for 0 of INT8 codes
LARGEST = CONTAINER_MAX - MIDDLE  # INT8 code


def symmetric_grid(grid: Grid) -> StridedGrid:
    """Spread a low-bit grid so that its zero point is MIDDLE; of all strides the one with β' nearest to β.

    Errors (QuantizationError): a grid that lies so far from zero that no stride fits.
    """
    grid = grid.unsigned()
    best: StridedGrid | None = None
    for stride in range(CONTAINER_MAX // grid.qmax, 0, -1):
        origin = MIDDLE - int(zero_point_of(grid.offset, grid.scale, spread=stride))
        if origin < 0 or origin + stride * grid.qmax > CONTAINER_MAX:
            continue
        candidate = StridedGrid(grid, stride, origin, spread_scale(grid.scale, stride), MIDDLE)
        if best is None or abs(candidate.remainder) < 0.999 * abs(best.remainder):
            best = candidate
    if best is None:
        raise QuantizationError(
            f"its values {grid.values(0):.6g} … {grid.values(grid.qmax):.6g} do not fit signed codes around zero: "
            "train with an offset nearer to zero"
        )
    return best


def around_zero(grid: Grid) -> Grid:
    """The grid of 256 codes with real zero at code MIDDLE that holds the values of another one.

    qmin … qmax keep to these values. Its steps are up to twice as large where the values are of one sign; where MIDDLE
    is zero already, nothing changes.
    """
    grid = grid.unsigned()
    low, high = min(grid.values(grid.qmin), 0.0), max(grid.values(grid.qmax), 0.0)
    if abs(grid.offset + MIDDLE * grid.scale) < 1e-6 * grid.scale and grid.qmax <= CONTAINER_MAX:
        scale = float(np.float32(grid.scale))
    else:
        scale = float(np.float32(max(-low, high) / LARGEST))
    bounds = np.clip(np.rint(np.array([low, high]) / scale) + MIDDLE, 0, CONTAINER_MAX).astype(int)
    qmin, qmax = int(bounds[0]), int(bounds[1])
    return Grid(scale, -MIDDLE * scale, 0 if qmin <= 1 else qmin, qmax)
