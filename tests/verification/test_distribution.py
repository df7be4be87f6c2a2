"""distribution: what a quantizer reads is counted as an independent loop counts it, whatever the batches."""

from __future__ import annotations

import math

import numpy as np

from calib.grid import Grid
from lsq_export.verification.distribution import BINS, Spread


def _expected(values: np.ndarray, grid: Grid) -> tuple[list[int], int, int, float]:
    """Counts, clipped below and above, SQNR; by one number at a time."""
    levels = grid.qmax + 1
    low, high = grid.offset - (0.5 + levels / 8) * grid.scale, grid.offset + (levels * 9 / 8 - 0.5) * grid.scale
    counts, below, above, signal, noise = [0] * BINS, 0, 0, 0.0, 0.0
    for x in map(float, values.ravel()):
        below += x < grid.offset - grid.scale / 2
        above += x > grid.offset + (levels - 0.5) * grid.scale
        if low <= x <= high:
            counts[min(BINS - 1, int((x - low) / (high - low) * BINS))] += 1
        code = min(max(round((x - grid.offset) / grid.scale), 0), grid.qmax)
        signal, noise = signal + x * x, noise + (x - grid.offset - code * grid.scale) ** 2
    return counts, below, above, 10 * math.log10(signal / noise)


def test_values_are_counted_on_their_grid() -> None:
    grid = Grid(0.37, -1.91, 0, 15)
    values = np.random.default_rng(0).normal(0.5, 3.0, (6, 5, 7))
    spread = Spread(grid)
    for part in (values[:1], values[1:4], values[4:]):
        spread.add(part, grid.codes(part))
    found = spread.result()
    counts, below, above, sqnr = _expected(values, grid)
    assert list(found.counts) == counts and 0 < sum(counts) < values.size
    assert (found.clipped_below, found.clipped_above) == (below, above) and below and above
    assert math.isclose(found.sqnr_db, sqnr, rel_tol=1e-12)
    assert math.isclose(found.low, -1.91 - 2.5 * 0.37) and math.isclose(found.high, -1.91 + 17.5 * 0.37)


def test_values_on_the_grid_have_no_noise() -> None:
    grid = Grid(0.5, -1.0, 0, 3)
    spread = Spread(grid)
    spread.add(grid.values(np.array([0, 1, 2, 3])), np.array([0, 1, 2, 3]))
    found = spread.result()
    assert found.sqnr_db == math.inf and found.clipped_below == found.clipped_above == 0
    assert [count for count in found.counts if count] == [1, 1, 1, 1]
