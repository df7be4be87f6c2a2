"""argmin over (s, β) of ‖x̂ - x‖² (LSQ+, "Initialization"), for a distribution given as weighted points.

The codes of E1 cut the sorted points into intervals, one a code, so prefix sums of the points give the error of a grid in
O(codes · log points), and the least-squares (s, β) for fixed codes in closed form. The search takes the best of

    coarse      clipping ranges [lo, hi] on both sides of the mean, geometric steps
    settle      codes for (s, β), then least squares for the codes, until nothing improves (Lloyd's iteration), from the 200 best ranges:
                the error has several valleys
    autograd    Adam on s and β with straight-through rounding, as in the paper
    zoom        finer ranges around the best few, then settle again

Nothing random. Computed in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from .grid import dequantize, quantize
from .observers import Points

OffsetRule = Literal["none", "integer", "real"]  # β = 0, β on a multiple of s, any β
STEPS, LEARNING_RATE = 60, 0.01  # of Adam; the rate is in shares of s


@dataclass(frozen=True)
class Candidates:
    """K grids: scale and offset, shape [K]."""

    scale: np.ndarray
    offset: np.ndarray

    def __add__(self, other: Candidates) -> Candidates:
        return Candidates(np.concatenate((self.scale, other.scale)), np.concatenate((self.offset, other.offset)))


class Objective:
    """Mean squared error of grids with codes qmin … qmax on points."""

    def __init__(self, points: Points, qmin: int, qmax: int, rule: OffsetRule) -> None:
        self.points, self.qmin, self.qmax, self.rule = points, qmin, qmax, rule
        weights = points.counts / points.counts.sum()
        self.mean = float(points.values @ weights)
        centered = points.values - self.mean  # [P]; keeps the sums of squares exact when the mean is far from zero
        self._sums = [np.concatenate(([0.0], np.cumsum(weights * centered**power))) for power in (0, 1, 2)]  # 3 × [P + 1]
        self._codes = np.arange(qmin, qmax + 1, dtype=np.float64)  # [L]

    def allowed(self, c: Candidates) -> Candidates:
        """The nearest candidates that obey the offset rule and have a positive scale."""
        c = Candidates(c.scale[c.scale > 0], c.offset[c.scale > 0])
        if self.rule == "real":
            return c
        return Candidates(c.scale, c.scale * np.round(c.offset / c.scale) if self.rule == "integer" else np.zeros_like(c.offset))

    def ranges(self, low: np.ndarray, high: np.ndarray) -> Candidates:
        """Grids whose codes qmin and qmax have the values low and high."""
        scale = (high - low) / (self.qmax - self.qmin)
        return self.allowed(Candidates(scale, low - self.qmin * scale))

    def _intervals(self, c: Candidates) -> list[np.ndarray]:
        """Weight, Σ(x - mean) and Σ(x - mean)² of the points of each code: 3 × [K, L]."""
        cuts = c.scale[:, None] * (self._codes[:-1] + 0.5) + c.offset[:, None]  # [K, L - 1]
        inner = np.searchsorted(self.points.values, cuts.ravel()).reshape(cuts.shape)
        ends = np.pad(inner, ((0, 0), (0, 1)), constant_values=len(self.points.values))  # [K, L]
        return [np.diff(sums[ends], axis=1, prepend=0.0) for sums in self._sums]

    def error(self, c: Candidates) -> np.ndarray:
        """[K]"""
        weight, first, second = self._intervals(c)
        level = c.scale[:, None] * self._codes + (c.offset[:, None] - self.mean)
        return (second - 2 * level * first + level**2 * weight).sum(1)

    def refit(self, c: Candidates) -> Candidates:
        """Least squares for the codes that c gives: x ≈ s·q + β, or x ≈ s·(q + z) with z = β/s fixed by the offset rule."""
        weight, first, _ = self._intervals(c)
        q = self._codes
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.rule == "real":
                mean_q, mean_x = weight @ q, first.sum(1)
                scale = (first @ q - mean_q * mean_x) / (weight @ q**2 - mean_q**2)
                offset = mean_x - scale * mean_q + self.mean
            else:
                z = np.round(c.offset / c.scale)
                shifted = q + z[:, None]  # [K, L]
                scale = ((first + self.mean * weight) * shifted).sum(1) / (weight * shifted**2).sum(1)
                offset = scale * z
        ok = np.isfinite(scale) & (scale > 0)
        return Candidates(np.where(ok, scale, c.scale), np.where(ok, offset, c.offset))

    def best(self, c: Candidates, keep: int) -> Candidates:
        order = np.argsort(self.error(c), kind="stable")[:keep]
        return Candidates(c.scale[order], c.offset[order])


def best_grid(points: Points, qmin: int, qmax: int, rule: OffsetRule, starts: Sequence[tuple[float, float]] = ()) -> tuple[float, float]:
    """(s, β) with the smallest mean squared error found. `starts`: (s, β) to try as well; the result is never worse than these."""
    objective = Objective(points, qmin, qmax, rule)
    found = objective.allowed(Candidates(*np.array(starts, dtype=np.float64).reshape(-1, 2).T)) + _coarse(objective)
    found = objective.best(_settle(objective, objective.best(found, 200)), 24)
    learned = objective.allowed(_adam(objective, objective.best(found, 1)))
    found = objective.best(_settle(objective, _zoom(objective, learned + found)), 1)
    return float(found.scale[0]), float(found.offset[0])


def _coarse(o: Objective) -> Candidates:
    shares = np.geomspace(2e-3, 1.0, 40)
    low, high = float(o.points.values[0]), float(o.points.values[-1])
    if o.rule == "none":
        steps = max(abs(low), abs(high)) / o.qmax * np.geomspace(1e-3, 1.0, 200)
        return Candidates(steps, np.zeros_like(steps))
    lows, highs = np.meshgrid(o.mean - (o.mean - low) * shares, o.mean + (high - o.mean) * shares)
    return o.ranges(lows.ravel(), highs.ravel())


def _zoom(o: Objective, c: Candidates) -> Candidates:
    for span in (0.08, 0.02, 0.005, 0.00125):
        c = o.best(c, 4)
        shifts = np.linspace(-span, span, 9)
        down, up = (shift.ravel() for shift in np.meshgrid(shifts, shifts))  # [81]
        low, high = c.offset + o.qmin * c.scale, c.offset + o.qmax * c.scale  # [4]
        size = high - low
        c = c + o.ranges(*((edge[:, None] + size[:, None] * move).ravel() for edge, move in ((low, down), (high, up))))
    return o.best(c, 8)


def _settle(o: Objective, c: Candidates) -> Candidates:
    for _ in range(30):
        refitted = o.allowed(o.refit(c))
        if np.array_equal(refitted.scale, c.scale) and np.array_equal(refitted.offset, c.offset):
            break
        better = o.error(refitted) < o.error(c)
        c = Candidates(np.where(better, refitted.scale, c.scale), np.where(better, refitted.offset, c.offset))
        if not better.any():
            break
    return c


def _adam(o: Objective, start: Candidates) -> Candidates:
    """The best (s, β) of a run of Adam from one start."""
    x, weight = torch.from_numpy(o.points.values), torch.from_numpy(o.points.counts / o.points.counts.sum())  # [P]
    s0, b0 = float(start.scale[0]), float(start.offset[0])
    change = torch.zeros(2, dtype=torch.float64, requires_grad=True)  # of log s, and of β in units of the first s
    optimizer = torch.optim.Adam([change], lr=LEARNING_RATE)
    path = []
    with torch.enable_grad():
        for _ in range(STEPS):
            s = s0 * change[0].exp()
            b = b0 + s0 * change[1] if o.rule != "none" else torch.zeros_like(s)
            if o.rule == "integer":
                b = s * (b / s + ((b / s).round() - b / s).detach())
            path.append((float(s.detach()), float(b.detach())))
            v = ((x - b) / s).clamp(o.qmin, o.qmax)
            q = v + (quantize(x, s, b, o.qmin, o.qmax) - v).detach()
            loss = ((dequantize(q, s, b) - x).square() * weight).sum() / s0**2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return o.best(Candidates(*np.array(path).T), 1)
