"""Scales and shifts that keep sums of codes away from rounding ties.

Sums of dequantized codes (residual adds, averages) take finitely many values. Kernels compute them in float32, each in an order of its own; where a
value lies almost on a tie (k + 1/2 steps), they round differently from real arithmetic and from each other. The grids of edges are ours to choose:
a scale moved by some millionths puts every value at least MARGIN steps from any tie, so that every order of float32 arithmetic gives one result.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MARGIN = 5e-5  # steps; three float32 roundings of numbers up to 512 miss by at most 3 * 2^-16 = 4.6e-5
STRIDE = 2e-6  # relative change from one candidate to the next: half a thousandth of a step at code 255
CANDIDATES = 2000
FloatArray = NDArray[np.float64]


def clear_scale(values: FloatArray, scale: float, low: int, high: int) -> float:
    """The first float32 scale from `scale` upward that keeps all values clear of ties; the clearest one if none does.

    values: every value that the sum can take. low, high: codes minus zero point; values beyond them saturate and do not matter.
    """
    return _first_clear(np.unique(values), [(float(np.float32(scale * (1 + STRIDE * i))), 0.0) for i in range(CANDIDATES)], low, high)[0]


def clear_shift(values: FloatArray, shift: float, scale: float, low: int, high: int) -> float:
    """The first float32 shift, |shift| growing by STRIDE steps at a time, that keeps values + shift clear of ties."""
    away = np.copysign(scale * 10 * STRIDE, shift)
    return _first_clear(np.unique(values), [(scale, float(np.float32(shift + away * i))) for i in range(CANDIDATES)], low, high)[1]


def _first_clear(values: FloatArray, candidates: list[tuple[float, float]], low: int, high: int) -> tuple[float, float]:
    best, widest = candidates[0], -1.0
    for scale, shift in candidates:
        clearance = tie_distance((values + shift) / scale, low, high)
        if clearance > widest:
            best, widest = (scale, shift), clearance
        if clearance >= MARGIN:
            break
    return best


def tie_distance(steps: FloatArray, low: int, high: int) -> float:
    """The smallest distance of values (in steps) to a tie between codes low … high; 0.5 if there is none."""
    inside = steps[(steps > low - 1) & (steps < high + 1)]
    return float(np.abs(inside - np.floor(inside) - 0.5).min(initial=0.5))
