"""argmin over (s, β) of ‖x̂ - x‖² (LSQ+, "Initialization"), for a distribution given as weighted points.

The search takes the best of

    coarse       clipping ranges [lo, hi] on both sides of the mean, in geometric steps
    few values   for data that have few values: grids through two of them, or of fractions of their gaps
    settle       from the 200 best of these (the error has several valleys): codes for (s, β), then least squares for
                 the codes, until nothing improves (Lloyd's iteration)
    descent      Adam on s and β with straight-through rounding, as in the paper (`calib.initialization.descent`)
    zoom         finer ranges around the best few, then settle again
    best scale   with β = s·z, z an integer: the exact optimum over s for the best few z
                 (`calib.initialization.scale`); with β = 0 nothing else is needed

Nothing is random. Everything is computed in float64.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calib.statistics.observers import Points

from .descent import descend
from .objective import Candidates, Objective, OffsetRule
from .scale import best_scale

# With so few codes, every z that keeps zero among the codes is tried; with so few codes and values, every pair of
# values on every pair of codes.
FEW = 16


def best_grid(
    points: Points, qmin: int, qmax: int, rule: OffsetRule, starts: Sequence[tuple[float, float]] = ()
) -> tuple[float, float]:
    """(s, β) with the smallest mean squared error that the search finds.

    starts: (s, β) to try as well; the result is never worse than these.

    Errors (ValueError): there is nothing to try (all points at or below zero, β = 0, codes from 0, no starts).
    """
    if rule == "none":
        best = best_scale(points, qmin, qmax)
        if best is None and not starts:
            raise ValueError("no positive scale is better than zero, and there is no start to fall back on")
        return (best or starts[0])[0], 0.0
    objective = Objective(points, qmin, qmax, rule)
    grids = objective.allowed(_candidates(starts)) + _coarse(objective) + _few_values(objective)
    grids = objective.best(_settle(objective, objective.best(grids, 200)), 24)
    first = objective.best(grids, 1)
    start = float(first.scale[0]), float(first.offset[0])
    path = _candidates(descend(points, start, qmin, qmax, rule))
    learned = objective.allowed(objective.best(path, 1))
    grids = objective.best(_settle(objective, _zoom(objective, learned + grids)), 8)
    if rule == "integer":
        grids = objective.best(grids + _whole(objective, grids), 1)
    return float(grids.scale[0]), float(grids.offset[0])


def _candidates(grids: Sequence[tuple[float, float]]) -> Candidates:
    return Candidates(*np.array(grids, dtype=np.float64).reshape(-1, 2).T)


def _coarse(o: Objective) -> Candidates:
    shares = np.geomspace(2e-3, 1.0, 40)
    low, high = float(o.points.values[0]), float(o.points.values[-1])
    lows, highs = np.meshgrid(o.mean - (o.mean - low) * shares, o.mean + (high - o.mean) * shares)
    return o.ranges(lows.ravel(), highs.ravel())


def _few_values(o: Objective) -> Candidates:
    """Grids that hold some of the values exactly: two values on two codes, or a gap that is a multiple of s.

    Data with few values (pixels, counts, codes of a network before this one) may lie on a grid exactly.
    """
    values, codes = o.points.values, o.codes
    none = Candidates(np.empty(0), np.empty(0))
    if not 1 < len(values) <= 4 * len(codes):
        return none
    if max(len(values), len(codes)) <= FEW:
        lower, upper = np.triu_indices(len(values), 1)
        first, last = np.triu_indices(len(codes), 1)
        gap = (values[upper] - values[lower])[:, None]
        scale = gap / (codes[last] - codes[first])  # [pairs of values, pairs of codes]
        return o.allowed(Candidates(scale.ravel(), (values[lower][:, None] - scale * codes[first]).ravel()))
    gaps = np.unique(np.quantile(np.diff(values), np.linspace(0, 1, 9)))
    scale = (gaps[:, None] / np.arange(1, 9)).ravel()  # [gaps · 8]
    heaviest = values[o.points.counts.argmax()]
    middle = heaviest - scale * np.round((heaviest - values[0]) / scale + o.qmin)
    offsets = (values[0] - scale * o.qmin, values[-1] - scale * o.qmax, middle)
    return sum((o.allowed(Candidates(scale, offset)) for offset in offsets), none)


def _whole(o: Objective, c: Candidates) -> Candidates:
    """The best scales for the z = β/s of c; with few codes, for every z that keeps zero among them."""
    few = len(o.codes) <= FEW
    nearest = list(dict.fromkeys(c.zeros.tolist()))[: 8 if few else 2]
    zeros = sorted({*nearest, *(range(-o.qmax, -o.qmin + 1) if few else ())})
    grids = [
        (best[0], best[0] * z)
        for z in zeros
        if (best := best_scale(o.points, int(o.qmin + z), int(o.qmax + z))) is not None
    ]
    return _candidates(grids)


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
    """Refit each candidate until it no longer improves."""
    scale, offset, intervals = c.scale.copy(), c.offset.copy(), o.intervals(c)
    error, moving = o.error(c, intervals), np.arange(len(scale))
    for _ in range(30):
        refitted = o.allowed(o.refit(Candidates(scale[moving], offset[moving]), intervals))
        intervals = o.intervals(refitted)
        errors = o.error(refitted, intervals)
        better = errors < error[moving]
        moving, intervals = moving[better], [v[better] for v in intervals]
        scale[moving], offset[moving], error[moving] = refitted.scale[better], refitted.offset[better], errors[better]
        if not len(moving):
            break
    return Candidates(scale, offset)
