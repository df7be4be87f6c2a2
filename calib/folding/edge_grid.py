"""8-bit grids for edges: tensors between integer operators for which training learned no quantizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from calib.grid import FloatArray, Grid, dequantize_linear, quantize_linear, zero_point_of
from calib.statistics.observers import Points

from .containers import CONTAINER_MAX

THRESHOLD_MARGIN = 0.25  # steps of a trained grid: halfway from its first code to its first threshold
SHRINK = np.array([1.0, 0.98, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])


TANH_STEPS = 127  # codes from 0 to 1


@dataclass(frozen=True)
class EdgeGrid:
    """An ONNX grid (E2) on UINT8 that holds real zero: values are scale * (c - zero_point).

    error: mean squared error on the calibration data; of what is read of them, as a share of its mean square, where
    that is something else.
    """

    scale: float
    zero_point: int
    error: float

    @property
    def offset(self) -> float:
        return -self.scale * self.zero_point


TANH = EdgeGrid(float(np.float32(1 / TANH_STEPS)), TANH_STEPS, 0.0)  # the one that its integer form has


ReadAs = Callable[[FloatArray], Sequence[FloatArray]]


def edge_grid(
    points: Points,
    *,
    low: float = -np.inf,
    high: float = np.inf,
    keep_range: bool = False,
    read_as: ReadAs | None = None,
) -> EdgeGrid:
    """The asymmetric 8-bit grid with the smallest squared error on the data (LSQ+, its initialization).

    points: the calibration data as a weighted histogram.
    low, high: a clamp that the grid takes over: its range stays inside, so that saturation of the container clamps.
    keep_range: never clip what calibration saw (outputs of the network).
    read_as(x): what is read of values x, of any shape: functions of each number by itself. The error is then that of
    Σ (f(x̂) - f(x))² / Σ f(x)² over these.
    """
    bottom = max(min(float(points.values[0]), 0.0), min(low, 0.0))
    top = min(max(float(points.values[-1]), 0.0), max(high, 0.0))
    if top - bottom <= 0 or not np.isfinite(top - bottom):
        return EdgeGrid(1.0, 0, 0.0)
    search = _Search(points, None if keep_range else read_as)
    (best,) = search.grids([(bottom, top)])
    if keep_range:
        return best
    downs, ups = SHRINK if bottom < 0 else SHRINK[:1], SHRINK if top > 0 else SHRINK[:1]
    while True:
        shares = [(down, up) for down in downs for up in ups]
        found = search.grids([(bottom * down, top * up) for down, up in shares])
        nearest, (down, up) = min(zip(found, shares, strict=True), key=lambda each: each[0].error)
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


class _Search:
    """Grids and what they cost. Where what is read of the data is not finite, the data themselves count."""

    def __init__(self, points: Points, read_as: ReadAs | None) -> None:
        self._points = points
        wanted = read_as(points.values) if read_as is not None else []
        self._powers = [float(np.average(y**2, weights=points.counts)) for y in wanted]
        known = read_as is not None and all(map(np.isfinite, self._powers))
        self._read_as, self._wanted = (read_as, wanted) if known else (None, [])

    def grids(self, ranges: Sequence[tuple[float, float]]) -> list[EdgeGrid]:
        """The grid of each range."""
        codes_of = [_on_onnx(bottom, top) for bottom, top in ranges]
        if self._read_as is None:
            return [EdgeGrid(scale, zero_point, self._error(scale, zero_point)) for scale, zero_point in codes_of]
        every = np.arange(CONTAINER_MAX + 1)
        levels = np.stack([dequantize_linear(every, scale, zero_point) for scale, zero_point in codes_of])
        read = self._read_as(levels)
        return [
            EdgeGrid(scale, zero_point, self._error_read(scale, zero_point, [y[row] for y in read]))
            for row, (scale, zero_point) in enumerate(codes_of)
        ]

    def _codes(self, scale: float, zero_point: int) -> FloatArray:
        codes: FloatArray = quantize_linear(self._points.values, scale, zero_point, 0, CONTAINER_MAX)
        return codes

    def _error(self, scale: float, zero_point: int) -> float:
        """In the data themselves."""
        values = dequantize_linear(self._codes(scale, zero_point), scale, zero_point)
        return float(np.average((values - self._points.values) ** 2, weights=self._points.counts))

    def _error_read(self, scale: float, zero_point: int, read: Sequence[FloatArray]) -> float:
        """In what is read. read: of each code, in as many ways as there are."""
        places = self._codes(scale, zero_point).astype(np.intp)
        error = 0.0
        with np.errstate(invalid="ignore", over="ignore"):
            for y, wanted, power in zip(read, self._wanted, self._powers, strict=True):
                error += float(np.average((y[places] - wanted) ** 2, weights=self._points.counts)) / (power or 1.0)
        return error if np.isfinite(error) else np.inf


def _on_onnx(bottom: float, top: float) -> tuple[float, int]:
    """(scale, zero point) of the codes of a range."""
    scale = float(max(np.float32((top - bottom) / CONTAINER_MAX), np.finfo(np.float32).tiny))
    return scale, int(np.clip(zero_point_of(bottom, scale), 0, CONTAINER_MAX))
