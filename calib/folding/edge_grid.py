"""8-bit grids for edges: tensors between integer operators for which training learned no quantizer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.grid import Grid, dequantize_linear, quantize_linear, zero_point_of
from calib.statistics.observers import Points

from .containers import CONTAINER_MAX

THRESHOLD_MARGIN = 0.25  # steps of a trained grid: halfway from its first code to its first threshold
SHRINK = np.array([1.0, 0.98, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])


TANH_STEPS = 127  # codes from 0 to 1


@dataclass(frozen=True)
class EdgeGrid:
    """An ONNX grid (E2) on UINT8 that holds real zero: values are scale * (c - zero_point).

    error: mean squared error on the calibration data.
    """

    scale: float
    zero_point: int
    error: float

    @property
    def offset(self) -> float:
        return -self.scale * self.zero_point


TANH = EdgeGrid(float(np.float32(1 / TANH_STEPS)), TANH_STEPS, 0.0)  # the one that its integer form has


def edge_grid(points: Points, *, low: float = -np.inf, high: float = np.inf, keep_range: bool = False) -> EdgeGrid:
    """The asymmetric 8-bit grid with the smallest squared error on the data (LSQ+, its initialization).

    points: the calibration data as a weighted histogram.
    low, high: a clamp that the grid takes over: its range stays inside, so that saturation of the container clamps.
    keep_range: never clip what calibration saw (outputs of the network).
    """
    bottom = max(min(float(points.values[0]), 0.0), min(low, 0.0))
    top = min(max(float(points.values[-1]), 0.0), max(high, 0.0))
    if top - bottom <= 0 or not np.isfinite(top - bottom):
        return EdgeGrid(1.0, 0, 0.0)
    best = _grid(points, bottom, top)
    if keep_range:
        return best
    downs, ups = SHRINK if bottom < 0 else SHRINK[:1], SHRINK if top > 0 else SHRINK[:1]
    while True:
        candidates = [(_grid(points, bottom * down, top * up), down, up) for down in downs for up in ups]
        nearest, down, up = min(candidates, key=lambda candidate: candidate[0].error)
        if not nearest.error < best.error:
            return best
        best, bottom, top = nearest, bottom * down, top * up
        if SHRINK[-1] not in (down, up):  # otherwise an outlier, ten times beyond the rest: search on from there
            return best


def aligned_grid(grid: Grid) -> EdgeGrid | None:
    """The grid of an edge that only this trained low-bit grid reads.

    Its 256 codes reach from below the first threshold of the trained grid, β + s/2, to above its last, β + s·(p - 1/2).
    No code is spent on values that the trained grid does not tell apart, and what saturates there would have saturated
    on the trained grid. Real zero is on the grid, since kernels want a zero point in the container; None where that
    would make the grid more than twice as coarse.
    """
    grid = grid.unsigned()
    low, high = grid.values(THRESHOLD_MARGIN), grid.values(grid.qmax - THRESHOLD_MARGIN)
    reach = max(high, 0.0) - min(low, 0.0)
    if reach > 2 * (high - low):
        return None
    scale = float(np.float32(reach / CONTAINER_MAX))
    return EdgeGrid(scale, int(zero_point_of(min(low, 0.0), scale)), 0.0)


def _grid(points: Points, bottom: float, top: float) -> EdgeGrid:
    scale = float(max(np.float32((top - bottom) / CONTAINER_MAX), np.finfo(np.float32).tiny))
    zero_point = int(np.clip(zero_point_of(bottom, scale), 0, CONTAINER_MAX))
    codes = quantize_linear(points.values, scale, zero_point, 0, CONTAINER_MAX)
    errors = dequantize_linear(codes, scale, zero_point) - points.values
    return EdgeGrid(scale, zero_point, float(np.average(errors**2, weights=points.counts)))
