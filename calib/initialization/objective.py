"""The squared error of grids on a distribution that is given as weighted points.

The codes of the trained grid (E1) cut the sorted points into intervals, one for each code, so prefix sums of the points
give the error of a grid in O(codes · log points), and the least-squares (s, β) for fixed codes in closed form. Computed
in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from calib.grid import FloatArray
from calib.statistics.observers import Points

OffsetRule = Literal["none", "integer", "real"]  # β = 0, β on a multiple of s, any β


@dataclass(frozen=True)
class Candidates:
    """K grids: scale and offset, shape [K]."""

    scale: FloatArray
    offset: FloatArray

    @property
    def zeros(self) -> FloatArray:
        """z = round(β/s), [K]: how many steps β is, in whole steps."""
        return np.round(self.offset / self.scale)

    def __add__(self, other: Candidates) -> Candidates:
        return Candidates(np.concatenate((self.scale, other.scale)), np.concatenate((self.offset, other.offset)))


class Objective:
    """Mean squared error of grids with codes qmin … qmax on points."""

    def __init__(self, points: Points, qmin: int, qmax: int, rule: OffsetRule) -> None:
        self.points, self.qmin, self.qmax, self.rule = points, qmin, qmax, rule
        weights = points.counts / points.counts.sum()
        self.mean = float(points.values @ weights)
        centered = points.values - self.mean  # [P]; keeps the sums of squares exact when the mean is far from zero
        self._sums = [np.concatenate(([0.0], np.cumsum(weights * centered**power))) for power in (0, 1, 2)]  # [P + 1]
        self.codes = np.arange(qmin, qmax + 1, dtype=np.float64)  # [L]

    def allowed(self, c: Candidates) -> Candidates:
        """The nearest candidates that obey the offset rule and have a positive scale."""
        c = Candidates(c.scale[c.scale > 0], c.offset[c.scale > 0])
        if self.rule == "real":
            return c
        return Candidates(c.scale, c.scale * c.zeros)

    def ranges(self, low: FloatArray, high: FloatArray) -> Candidates:
        """Grids whose codes qmin and qmax have the values low and high."""
        scale = (high - low) / (self.qmax - self.qmin)
        return self.allowed(Candidates(scale, low - self.qmin * scale))

    def intervals(self, c: Candidates) -> list[FloatArray]:
        """Weight, Σ(x - mean) and Σ(x - mean)² of the points of each code: 3 × [K, L]."""
        cuts = c.scale[:, None] * (self.codes[:-1] + 0.5) + c.offset[:, None]  # [K, L - 1]
        ends = np.zeros((len(cuts), len(self.codes) + 1), np.intp)
        ends[:, 1:-1] = np.searchsorted(self.points.values, cuts.ravel()).reshape(cuts.shape)
        ends[:, -1] = len(self.points.values)
        return [(at := sums[ends])[:, 1:] - at[:, :-1] for sums in self._sums]

    def error(self, c: Candidates, intervals: list[FloatArray] | None = None) -> FloatArray:
        """The error of each candidate, [K]. intervals: those of c, where they are known."""
        weight, first, second = intervals or self.intervals(c)
        level = c.scale[:, None] * self.codes + (c.offset[:, None] - self.mean)
        return np.asarray((second - 2 * level * first + level**2 * weight).sum(1))

    def refit(self, c: Candidates, intervals: list[FloatArray] | None = None) -> Candidates:
        """The least-squares candidates for the codes that c gives.

        x ≈ s·q + β, or x ≈ s·(q + z) with z = β/s fixed by the offset rule.
        """
        weight, first, _ = intervals or self.intervals(c)
        q = self.codes
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.rule == "real":
                mean_q, mean_x = weight @ q, first.sum(1)
                scale = (first @ q - mean_q * mean_x) / (weight @ q**2 - mean_q**2)
                offset = mean_x - scale * mean_q + self.mean
            else:
                z = c.zeros
                shifted = q + z[:, None]  # [K, L]
                scale = ((first + self.mean * weight) * shifted).sum(1) / (weight * shifted**2).sum(1)
                offset = scale * z
        ok = np.isfinite(scale) & (scale > 0)
        return Candidates(np.where(ok, scale, c.scale), np.where(ok, offset, c.offset))

    def best(self, c: Candidates, keep: int) -> Candidates:
        """The `keep` candidates with the smallest errors, best first."""
        order = np.argsort(self.error(c), kind="stable")[:keep]
        return Candidates(c.scale[order], c.offset[order])
