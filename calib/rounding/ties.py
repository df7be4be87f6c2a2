"""Scales and shifts that keep sums of codes away from rounding ties.

Sums of dequantized codes (residual adds, averages) take finitely many values. Kernels compute them in float32, each in
an order of its own, or in fixed point (fixed_point.py); where a value lies almost on a tie (k + 1/2 steps), they round
differently from real arithmetic and from each other. The grids of edges are ours to choose: with a scale moved by some
millionths every value is at least MARGIN steps from any tie, so that every order of float32 arithmetic gives one
result, and fixed point gives the same: one file, the same codes on every instruction set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from calib.folding.containers import CONTAINER_MAX

from .fixed_point import Addend, fixed_point_sums

MARGIN = 5e-5  # steps; three float32 roundings of numbers up to 512 miss by at most 3 * 2^-16 = 4.6e-5
STRIDE = 2e-6  # relative change from one candidate to the next: half a thousandth of a step at code 255
CANDIDATES = 2000
TABLE, NEAR = 256, 4000  # values of a table; candidates on each side of its scale, an eighth of a STRIDE apart
FloatArray = NDArray[np.float64]


def clear_scale(
    values: FloatArray, scale: float, low: int, high: int, *, margin: float = MARGIN, readers: Sequence[float] = ()
) -> float:
    """The float32 scale nearest to `scale` that keeps all values clear of ties; the clearest one if none does.

    values: every value that the sum can take; none if only the readers matter. low, high: codes minus zero point;
    values beyond them saturate and do not matter. readers: scales of grids that these codes are quantized to directly;
    that must be clear of ties as well. A table (at most 256 values) keeps as many of its codes as it can: training may
    have seen this grid, and a value of the table is that of many elements."""
    values = np.unique(values)
    kept = _keeping(values, scale, low, high, margin, readers) if 0 < len(values) <= TABLE else None
    return kept or _first(
        _around(scale, scale * STRIDE), lambda moved: _clearances(values, moved, low, high, readers), margin=margin
    )


def _keeping(
    values: FloatArray, scale: float, low: int, high: int, margin: float, readers: Sequence[float]
) -> float | None:
    """Of the first float32 scales above and below that are clear of ties, the one that changes fewer codes of the
    values: further off more change.
    """

    def changed(moved: float) -> int:
        return int((np.rint(values / moved).clip(low, high) != np.rint(values / scale).clip(low, high)).sum())

    def first_clear(step: float) -> float | None:
        return next(
            (moved for moved in _from(scale, step, NEAR) if _clearances(values, moved, low, high, readers) >= margin),
            None,
        )

    sides = first_clear(scale * STRIDE / 8), first_clear(-scale * STRIDE / 8)
    return min(
        (moved for moved in sides if moved is not None),
        key=lambda moved: (changed(moved), abs(moved - scale)),
        default=None,
    )


def clear_sum_scale(a: Addend, b: Addend, scale: float, low: int, high: int, *, readers: Sequence[float] = ()) -> float:
    """The same for the output scale of a + b, which fixed point must round alike."""
    values = np.unique(_sums(a, b))
    return _first(
        _around(scale, scale * STRIDE),
        lambda moved: _clearances(values, moved, low, high, readers),
        lambda moved: fixed_point_agrees(a, b, moved, low, high),
        sum_margin(max(a.scale, b.scale), scale),
    )


def sum_margin(coarsest: float, scale: float) -> float:
    """Steps of `scale` to keep sums clear of ties. Kernels multiply codes and zero points of up to 255 by S_a/S: above
    512 steps, which a grid much coarser than the output's reaches, four roundings miss by half a unit in the last place
    each."""
    largest = CONTAINER_MAX * coarsest / scale
    return MARGIN if largest <= 512 else 2 * float(np.spacing(np.float32(largest)))


def clear_shift(a: Addend, shift: Addend, scale: float, low: int, high: int) -> float:
    """The same for the scale of `shift`, a constant, moved by STRIDE steps of the output at a time;

    the output's scale stays.
    """

    def shifted(size: float) -> Addend:
        return Addend(shift.steps, size)

    return _first(
        _around(shift.scale, scale * 10 * STRIDE),
        lambda size: tie_distance(_sums(a, shifted(size)) / scale, low, high),
        lambda size: fixed_point_agrees(a, shifted(size), scale, low, high),
        sum_margin(a.scale, scale),
    )


def exact_product_scale(
    a: float, b: float, scale: float, low: int, high: int, *, readers: Sequence[float] = ()
) -> float:
    """For a sum of products of codes on scales a and b (E9, as QLinearMatMul requantizes): the output scale with the
    most exact multiplier.

    M = float32(float32(a·b)/S) is rounded twice; the S nearest to `scale` for which M·S misses a·b by less than 2^-30
    is taken, the best one if there is none, since the two roundings do not always make up for each other: accumulators
    then round as real numbers do, but for those that the float32 product itself rounds across a tie."""

    def exactness(moved: float) -> float:
        multiplier = np.float32(np.float32(a) * np.float32(b)) / np.float32(moved)
        error = abs(float(multiplier) * moved / (a * b) - 1)
        steps = np.arange(low, high + 1, dtype=np.float64) * moved
        clear = min([0.5, *(tie_distance(steps / reader, -255, 255) for reader in readers)])
        return -error if clear >= MARGIN else -1.0

    return _first(_around(scale, scale * STRIDE), exactness, margin=-(2.0**-30))


def tie_distance(steps: FloatArray, low: int, high: int) -> float:
    """The smallest distance of values (in steps) to a tie between two of the codes low … high;

    0.5 if there is none. Beyond them values saturate.
    """
    inside = steps[(steps >= low) & (steps <= high)]
    return float(np.abs(inside - np.floor(inside) - 0.5).min(initial=0.5))


def _clearances(values: FloatArray, scale: float, low: int, high: int, readers: Sequence[float]) -> float:
    steps = np.arange(low, high + 1, dtype=np.float64) * scale
    mine = _clearance(values, scale, low, high) if len(values) else 0.5
    return min([mine, *(tie_distance(steps / reader, -255, 255) for reader in readers)])


def _clearance(values: FloatArray, scale: float, low: int, high: int) -> float:
    """tie_distance(values / scale, low, high) of sorted values, which may be millions: the ties are few."""
    ties = (np.arange(low, high) + 0.5) * scale
    above = np.searchsorted(values, ties)
    neighbors = values[np.clip([above - 1, above], 0, len(values) - 1)]  # [2, ties]
    return float(min(0.5, np.abs(neighbors - ties).min() / scale))


def fixed_point_agrees(a: Addend, b: Addend, scale: float, low: int, high: int) -> bool:
    """Whether fixed point rounds every a + b to the code that real arithmetic gives."""
    fixed = fixed_point_sums(a, b, scale)
    return fixed is None or np.array_equal(fixed.clip(low, high), np.rint(_sums(a, b) / scale).clip(low, high))


def _sums(a: Addend, b: Addend) -> FloatArray:
    return np.asarray(np.add.outer(a.values, b.values))


def _from(start: float, step: float, count: int) -> Iterable[float]:
    return (float(np.float32(start + step * i)) for i in range(count))


def _around(start: float, step: float) -> Iterable[float]:
    """start, one step up, one down, two up, …"""
    return (float(np.float32(start + step * ((i + 1) // 2) * (1 if i % 2 else -1))) for i in range(CANDIDATES))


def _first(
    candidates: Iterable[float],
    clearance: Callable[[float], float],
    agrees: Callable[[float], bool] = lambda candidate: True,
    margin: float = MARGIN,
) -> float:
    """The first candidate with a clearance of `margin` for which kernels agree;

    the one with the widest clearance if there is none.
    """
    best, widest = 0.0, -np.inf
    for candidate in candidates:
        found = clearance(candidate)
        if found >= margin and agrees(candidate):
            return candidate
        if found > widest:
            best, widest = candidate, found
    return best
