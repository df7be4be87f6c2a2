"""Brute force over (s, β): plain numpy on every sample, its own formula of the grid. Nothing of calib is used here."""

from __future__ import annotations

import numpy as np

ROUNDS, KEEP = 6, 4  # of refinement, around the best few


def squared_error(x: np.ndarray, s: float, b: float, n: int, p: int) -> float:
    """Mean over the samples of (x̂ - x)², E1."""
    return float(((np.clip(np.rint((x - b) / s), n, p) * s + b - x) ** 2).mean())


def floor(x: np.ndarray) -> float:
    """What rounding s and β to float32 can cost: (2^-22·max|x|)², for data that a grid can hold without an error."""
    return float((2.0**-22 * np.abs(x).max()) ** 2)


def smallest_error(x: np.ndarray, n: int, p: int, rule: str) -> float:
    """The smallest squared error found for codes n … p; rule: "real", "integer" (β/s an integer) or "none" (β = 0)."""
    return _scales(x, n, p) if rule == "none" else _ranges(x, n, p, whole=rule == "integer")


def _scales(x: np.ndarray, n: int, p: int) -> float:
    top = float(np.abs(x).max()) / min(p, -n or p)
    scales = np.concatenate((np.geomspace(1e-3, 1.1, 400), np.linspace(0.01, 1.1, 400))) * top
    best = sorted((squared_error(x, s, 0.0, n, p), s) for s in scales)[:8]
    for reach in 0.01 / 4.0 ** np.arange(ROUNDS):
        near = [s * (1 + shift) for _, s in best for shift in np.linspace(-reach, reach, 15)]
        best = sorted(set(best + [(squared_error(x, s, 0.0, n, p), s) for s in near]))[:KEEP]
    return best[0][0]


def _ranges(x: np.ndarray, n: int, p: int, *, whole: bool) -> float:
    """Over the values (low, high) of the codes n and p:

    quantiles and equal steps of the data, phases of the best scales, then ever closer steps.
    """

    def tried(low: float, high: float) -> tuple[float, float, float]:
        s = (high - low) / (p - n)
        b = low - n * s
        if whole:
            b = np.rint(b / s) * s
        return squared_error(x, s, b, n, p), b + n * s, b + p * s

    bottom, top = float(x.min()), float(x.max())
    if bottom == top:
        return 0.0  # β or s·z is the value
    shares = np.concatenate(([0], np.geomspace(1 / len(x), 0.5, 14)))
    ends = np.unique(np.concatenate((np.quantile(x, shares), np.quantile(x, 1 - shares), np.linspace(bottom, top, 33))))
    pairs = [(low, high) for low in ends for high in ends if high > low + 1e-9 * (top - bottom)]
    pairs += [(bottom, bottom + wider * (top - bottom)) for wider in np.linspace(1, (p - n) / 2, 100)]
    values = np.unique(x)
    if len(values) <= p - n + 1:  # such data may lie on a grid without an error
        pairs += [
            (bottom, bottom + (p - n) * gap / part) for gap in np.unique(np.diff(values)) for part in range(1, 13)
        ]
    best = sorted(tried(low, high) for low, high in pairs)[:8]
    for _, low, high in list(best):
        s = (high - low) / (p - n)
        best += [tried(low + s * phase, high + s * phase) for phase in np.linspace(-0.5, 0.5, 17)]
    for reach in 0.05 / 3.0 ** np.arange(ROUNDS):
        best = sorted(set(best))[:KEEP]
        shifts = np.linspace(-reach, reach, 7)
        best += [
            tried(low + (high - low) * i, high + (high - low) * j)
            for _, low, high in list(best)
            for i in shifts
            for j in shifts
        ]
    return min(best)[0]
