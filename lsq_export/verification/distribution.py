"""What a quantizer reads, beside its grid: a histogram, the share that is clipped, the noise of the quantization."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from calib.grid import Grid

from .agreement import decibels

BINS = 80
MARGIN = 1 / 8  # of the grid's width, drawn beyond each of its ends: a code of 2 … 64 levels has whole bins


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """Values that a quantizer read.

    counts: in equal bins from low to high, in the units of the tensor; values beyond are in none. clipped_below,
    clipped_above: elements more than half a step below the lowest value of the grid, or above the highest. sqnr_db: of
    the quantized values; None: no noise, or nothing but zeros.
    """

    low: float
    high: float
    counts: tuple[int, ...]
    clipped_below: int
    clipped_above: int
    sqnr_db: float


@dataclass
class Spread:
    """A distribution that grows batch by batch. grid: with codes from 0."""

    grid: Grid
    counts: np.ndarray = field(default_factory=lambda: np.zeros(BINS, np.int64))
    clipped: list[int] = field(default_factory=lambda: [0, 0])
    signal: float = 0.0
    noise: float = 0.0

    def add(self, values: np.ndarray, codes: np.ndarray) -> None:
        """values: what the quantizer read, of any shape. codes: what it made of them."""
        levels = self.grid.qmax + 1
        place = (values.ravel() - self.grid.offset) / self.grid.scale
        self.clipped[0] += int((place < -0.5).sum())
        self.clipped[1] += int((place > levels - 0.5).sum())
        ends = (-0.5 - MARGIN * levels, (1 + MARGIN) * levels - 0.5)
        self.counts += np.histogram(place, BINS, ends)[0]
        self.signal += float(np.square(values, dtype=np.float64).sum())
        self.noise += float(np.square(values - self.grid.values(codes), dtype=np.float64).sum())

    def result(self) -> Distribution:
        """What was read so far."""
        grid, levels = self.grid, self.grid.qmax + 1
        return Distribution(
            low=float(grid.values(-0.5 - MARGIN * levels)),
            high=float(grid.values((1 + MARGIN) * levels - 0.5)),
            counts=tuple(map(int, self.counts)),
            clipped_below=self.clipped[0],
            clipped_above=self.clipped[1],
            sqnr_db=decibels(self.signal, self.noise),
        )
