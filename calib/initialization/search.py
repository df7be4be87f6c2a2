"""argmin over (s, β) of ‖x̂ - x‖² (LSQ+, "Initialization"), for a distribution given as weighted points.

The codes of E1 cut the sorted points into intervals, one a code, so prefix sums of the points give the error of a grid
in O(codes · log points), and the least-squares (s, β) for fixed codes in closed form. The search takes the best of

    coarse      clipping ranges [lo, hi] on both sides of the mean, geometric steps; for data that have few values also grids through
                two of them, or of fractions of their gaps
    settle      codes for (s, β), then least squares for the codes, until nothing improves (Lloyd's iteration), from the 200 best ranges:
                the error has several valleys
    autograd    Adam on s and β with straight-through rounding, as in the paper
    zoom        finer ranges around the best few, then settle again
    best scale  with β = s·z, z an integer: the exact optimum over s for the best few z (`calib.initialization.scale`); with β = 0 nothing else is needed

Nothing random. Computed in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from calib.grid import dequantize, quantize
from calib.statistics.observers import Points

from .scale import best_scale

OffsetRule = Literal["none", "integer", "real"]  # β = 0, β on a multiple of s, any β
STEPS, LEARNING_RATE = 60, 0.01  # of Adam; the rate is in shares of s
# codes, or values: with so few, every z that keeps zero among the codes, every pair of values on every pair of codes is
# tried
FEW = 16


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
        self._sums = [
            np.concatenate(([0.0], np.cumsum(weights * centered**power))) for power in (0, 1, 2)
        ]  # 3 × [P + 1]
        self._codes = np.arange(qmin, qmax + 1, dtype=np.float64)  # [L]

    def allowed(self, c: Candidates) -> Candidates:
        """The nearest candidates that obey the offset rule and have a positive scale."""
        c = Candidates(c.scale[c.scale > 0], c.offset[c.scale > 0])
        if self.rule == "real":
            return c
        return Candidates(c.scale, c.scale * np.round(c.offset / c.scale))

    def ranges(self, low: np.ndarray, high: np.ndarray) -> Candidates:
        """Grids whose codes qmin and qmax have the values low and high."""
        scale = (high - low) / (self.qmax - self.qmin)
        return self.allowed(Candidates(scale, low - self.qmin * scale))

    def _intervals(self, c: Candidates) -> list[np.ndarray]:
        """Weight, Σ(x - mean) and Σ(x - mean)² of the points of each code: 3 × [K, L]."""
        cuts = c.scale[:, None] * (self._codes[:-1] + 0.5) + c.offset[:, None]  # [K, L - 1]
        ends = np.zeros((len(cuts), len(self._codes) + 1), np.intp)
        ends[:, 1:-1] = np.searchsorted(self.points.values, cuts.ravel()).reshape(cuts.shape)
        ends[:, -1] = len(self.points.values)
        return [(at := sums[ends])[:, 1:] - at[:, :-1] for sums in self._sums]

    def error(self, c: Candidates, intervals: list[np.ndarray] | None = None) -> np.ndarray:
        """[K]; intervals: `_intervals` of c, where they are known."""
        weight, first, second = intervals or self._intervals(c)
        level = c.scale[:, None] * self._codes + (c.offset[:, None] - self.mean)
        return (second - 2 * level * first + level**2 * weight).sum(1)

    def refit(self, c: Candidates, intervals: list[np.ndarray] | None = None) -> Candidates:
        """Least squares for the codes that c gives:

        x ≈ s·q + β, or x ≈ s·(q + z) with z = β/s fixed by the offset rule.
        """
        weight, first, _ = intervals or self._intervals(c)
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


def best_grid(
    points: Points, qmin: int, qmax: int, rule: OffsetRule, starts: Sequence[tuple[float, float]] = ()
) -> tuple[float, float]:
    """(s, β) with the smallest mean squared error found. `starts`: (s, β) to try as well; the result is never worse
    than these.

    Errors: ValueError where there is nothing to try (all points at or below zero, β = 0, codes from 0, no starts).
    """
    if rule == "none":
        best = best_scale(points, qmin, qmax)
        if best is None and not starts:
            raise ValueError("no positive scale is better than zero, and there is no start to fall back on")
        return (best or starts[0])[0], 0.0
    objective = Objective(points, qmin, qmax, rule)
    found = (
        objective.allowed(Candidates(*np.array(starts, dtype=np.float64).reshape(-1, 2).T))
        + _coarse(objective)
        + _few_values(objective)
    )
    found = objective.best(_settle(objective, objective.best(found, 200)), 24)
    learned = objective.allowed(_adam(objective, objective.best(found, 1)))
    found = objective.best(_settle(objective, _zoom(objective, learned + found)), 8)
    if rule == "integer":
        found = objective.best(found + _whole(objective, found), 1)
    return float(found.scale[0]), float(found.offset[0])


def _coarse(o: Objective) -> Candidates:
    shares = np.geomspace(2e-3, 1.0, 40)
    low, high = float(o.points.values[0]), float(o.points.values[-1])
    lows, highs = np.meshgrid(o.mean - (o.mean - low) * shares, o.mean + (high - o.mean) * shares)
    return o.ranges(lows.ravel(), highs.ravel())


def _few_values(o: Objective) -> Candidates:
    """Such data (pixels, counts, codes of a network in front) may lie on a grid exactly:

    two values on two codes, or a gap a multiple of s.
    """
    values, codes = o.points.values, o._codes
    none = Candidates(np.empty(0), np.empty(0))
    if not 1 < len(values) <= 4 * len(codes):
        return none
    if max(len(values), len(codes)) <= FEW:
        lower, upper = np.triu_indices(len(values), 1)
        first, last = np.triu_indices(len(codes), 1)
        scale = (values[upper] - values[lower])[:, None] / (
            codes[last] - codes[first]
        )  # [pairs of values, pairs of codes]
        return o.allowed(Candidates(scale.ravel(), (values[lower][:, None] - scale * codes[first]).ravel()))
    gaps = np.unique(np.quantile(np.diff(values), np.linspace(0, 1, 9)))
    scale = (gaps[:, None] / np.arange(1, 9)).ravel()  # [gaps · 8]
    heaviest = values[o.points.counts.argmax()]
    middle = heaviest - scale * np.round((heaviest - values[0]) / scale + o.qmin)
    offsets = (values[0] - scale * o.qmin, values[-1] - scale * o.qmax, middle)
    return sum((o.allowed(Candidates(scale, offset)) for offset in offsets), none)


def _whole(o: Objective, c: Candidates) -> Candidates:
    """The best scales for the z = β/s of c; with few codes, for every z that keeps zero among them."""
    few = len(o._codes) <= FEW
    nearest = list(dict.fromkeys(np.round(c.offset / c.scale).tolist()))[: 8 if few else 2]
    tried = sorted({*nearest, *(range(-o.qmax, -o.qmin + 1) if few else ())})
    found = [
        (best[0], best[0] * z)
        for z in tried
        if (best := best_scale(o.points, int(o.qmin + z), int(o.qmax + z))) is not None
    ]
    return Candidates(*np.array(found, dtype=np.float64).reshape(-1, 2).T)


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
    """Each candidate until it no longer improves."""
    scale, offset, intervals = c.scale.copy(), c.offset.copy(), o._intervals(c)
    error, moving = o.error(c, intervals), np.arange(len(scale))
    for _ in range(30):
        tried = o.allowed(o.refit(Candidates(scale[moving], offset[moving]), intervals))
        intervals = o._intervals(tried)
        found = o.error(tried, intervals)
        better = found < error[moving]
        moving, intervals = moving[better], [v[better] for v in intervals]
        scale[moving], offset[moving], error[moving] = tried.scale[better], tried.offset[better], found[better]
        if not len(moving):
            break
    return Candidates(scale, offset)


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
            b = b0 + s0 * change[1]
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
