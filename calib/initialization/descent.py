"""Adam on (s, β) of one grid, with straight-through rounding (LSQ+, "Initialization"), by gradients written out.

The loss is Σ w·(x̂ - x)² / s₀². Rounding counts as if it were not there, and codes at the ends of the grid do not move:

    q = clamp(round(v)), v = (x - β)/s;   ∂x̂/∂s = q - v inside the grid, q beyond it;   ∂x̂/∂β = 0 inside, 1 beyond

What is learned is log s, and β in units of the first s. A thousand numbers are too few for torch's autograd, which
takes ten times as long.
"""

from __future__ import annotations

import numpy as np

from calib.grid import quantize
from calib.statistics.observers import Points

from .objective import OffsetRule

STEPS, LEARNING_RATE = 60, 0.01  # of Adam; the rate is in shares of s
MEAN, SQUARE, EPS = 0.9, 0.999, 1e-8  # Adam's usual decays of gradients and of their squares


def descend(
    points: Points, start: tuple[float, float], qmin: int, qmax: int, rule: OffsetRule
) -> list[tuple[float, float]]:
    """The (s, β) before each step. start: the first; with the rule "integer" β is a multiple of s throughout."""
    s0, b0 = start
    change, mean, square = np.zeros(2), np.zeros(2), np.zeros(2)  # change: of log s, and of β / s₀
    path = []
    for step in range(1, STEPS + 1):
        s, b = s0 * float(np.exp(change[0])), b0 + s0 * float(change[1])
        of_zero = 0.0  # ∂β/∂s
        if rule == "integer":
            z = float(np.rint(b / s))
            of_zero, b = z - b / s, s * z
        path.append((s, b))
        gradient = _gradient(points, (s, b), qmin, qmax, of_zero) * (s, s0) / s0**2
        mean = MEAN * mean + (1 - MEAN) * gradient
        square = SQUARE * square + (1 - SQUARE) * gradient**2
        size = np.sqrt(square / (1 - SQUARE**step)) + EPS
        change = change - LEARNING_RATE * mean / (1 - MEAN**step) / size
    return path


def _gradient(points: Points, grid: tuple[float, float], qmin: int, qmax: int, of_zero: float) -> np.ndarray:
    """Of the mean squared error after s and β. of_zero: ∂β/∂s."""
    x, (s, b) = points.values, grid
    v, q = (x - b) / s, quantize(x, s, b, qmin, qmax)
    inside = (v >= qmin) & (v <= qmax)
    slope = 2 * (q * s + b - x) * (points.counts / points.counts.sum())  # ∂/∂x̂
    of_offset = float(slope[~inside].sum())
    return np.array([float(slope @ (q - np.where(inside, v, 0.0))) + of_offset * of_zero, of_offset])
