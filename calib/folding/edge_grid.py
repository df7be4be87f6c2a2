"""8-bit grids for edges: tensors between integer operators for which training learned no quantizer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.grid import Grid, dequantize_linear, quantize_linear
from calib.statistics.observers import Points

CODES = 255
THRESHOLD_MARGIN = 0.25  # steps of a trained grid: half of the way from its first code to its first threshold
SHRINK = np.array([1.0, 0.98, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])


@dataclass(frozen=True)
class EdgeGrid:
    """E2 on UINT8: values are scale * (c - zero_point);

    real zero is on it. error: mean squared error on the calibration data.
    """

    scale: float
    zero_point: int
    error: float

    @property
    def offset(self) -> float:
        return -self.scale * self.zero_point


def edge_grid(points: Points, *, low: float = -np.inf, high: float = np.inf, keep_range: bool = False) -> EdgeGrid:
    """The asymmetric 8-bit grid with the smallest squared error on the data, as LSQ+'s initialization chooses s and
    beta.

    points: the calibration data as a weighted histogram. low, high: a clamp that the grid takes over: its range stays
    inside, so that the container's saturation is the clamp. keep_range: never clip what calibration saw (outputs of the
    network)."""
    bottom = max(min(float(points.values[0]), 0.0), min(low, 0.0))
    top = min(max(float(points.values[-1]), 0.0), max(high, 0.0))
    if top - bottom <= 0 or not np.isfinite(top - bottom):
        return EdgeGrid(1.0, 0, 0.0)
    best = _grid(points, bottom, top)
    if keep_range:
        return best
    downs, ups = SHRINK if bottom < 0 else SHRINK[:1], SHRINK if top > 0 else SHRINK[:1]
    while True:
        tried = [(_grid(points, bottom * down, top * up), down, up) for down in downs for up in ups]
        found, down, up = min(tried, key=lambda candidate: candidate[0].error)
        if not found.error < best.error:
            return best
        best, bottom, top = found, bottom * down, top * up
        if SHRINK[-1] not in (down, up):  # else an outlier, ten times beyond the rest: search on from there
            return best


def aligned_grid(grid: Grid) -> EdgeGrid | None:
    """For an edge that only this trained low-bit grid reads: 256 codes from below its first threshold β + s/2 to above
    its last, β + s·(p - 1/2).

    No code is spent on values that the trained grid does not tell apart, and what saturates there would have saturated
    on it. Real zero is on the grid, since kernels want a zero point in the container; None where that would make it
    coarser than twice."""
    grid = grid.unsigned()
    low, high = grid.values(THRESHOLD_MARGIN), grid.values(grid.qmax - THRESHOLD_MARGIN)
    reach = max(high, 0.0) - min(low, 0.0)
    if reach > 2 * (high - low):
        return None
    scale = float(np.float32(reach / CODES))
    return EdgeGrid(scale, int(np.rint(-min(low, 0.0) / scale)), 0.0)


def _grid(points: Points, bottom: float, top: float) -> EdgeGrid:
    scale = np.float32((top - bottom) / CODES)
    scale = max(scale, np.finfo(np.float32).tiny)
    zero_point = int(np.clip(np.rint(-bottom / float(scale)), 0, CODES))
    codes = quantize_linear(points.values, float(scale), zero_point, 0, CODES)
    errors = dequantize_linear(codes, float(scale), zero_point) - points.values
    return EdgeGrid(float(scale), zero_point, float(np.average(errors**2, weights=points.counts)))
