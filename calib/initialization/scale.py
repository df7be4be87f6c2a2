"""argmin over s of Σ w·(x - s·r(x))² for integer codes r in low … high, over every s, exactly.

With β = 0, r = q; with β = s·z, r = q + z.

As s falls from infinity, a code moves only where x/s passes a tie: |x|/s = k + 1/2. Between two ties the codes are
fixed, and with A = Σ w·x·r and B = Σ w·r² the best s for them is A/B, with the error

    Σ w·x² - A²/B

A tie adds w·|x| to A and w·((k + 1)² - k²) to B, so running sums over the sorted ties give the error for the codes of
all s. The smallest one is the optimum: the nearest codes of its s = A/B can only be better, and they are among those
that are tried.

Of 8 bits most ties belong to an s so small that what the grid cuts off alone costs more than some s does in all: see
`least_scale`.
"""

from __future__ import annotations

import numpy as np

from calib.statistics.observers import Points

MANY = 32  # codes, from which on it is worth the time to look for the least scale first
TRIED = 24  # scales that are tried for it, from the one that cuts nothing off down to a 64th of it


def best_scale(points: Points, low: int, high: int) -> tuple[float, float] | None:
    """(s, error), where the error is summed over the points.

    None if no positive s is better than x̂ = 0 (where all points are below zero and the codes start at 0, say).
    """
    x, w = points.values, points.counts  # [P]
    first = min(max(0, low), high)  # the code of everything as s -> infinity
    least = least_scale(points, low, high) if high - low >= MANY else 0.0
    ties, products, squares = [np.array([np.inf])], [np.array([(w @ x) * first])], [np.array([w.sum() * first**2])]
    for side, start, stop in ((x > 0, first, high), (x < 0, -first, -low)):
        k = np.arange(max(start, 0), stop, dtype=np.float64)[:, None]  # [K, 1]; away from zero: k -> k + 1
        size, weight = np.abs(x[side]), w[side]  # [P']
        tie = size / (k + 0.5)  # [K, P']
        used = tie > least
        ties.append(tie[used])
        products.append(np.broadcast_to(size * weight, tie.shape)[used])
        squares.append((weight * (2 * k + 1))[used])
    order = np.argsort(-np.concatenate(ties), kind="stable")  # a code's ties are in order already: runs, to be merged
    a, b = np.cumsum(np.concatenate(products)[order]), np.cumsum(np.concatenate(squares)[order])
    gain = np.divide(a * np.abs(a), b, out=np.zeros_like(a), where=b > 0)  # < 0 where A is: s = A/B must be positive
    best = int(gain.argmax())
    if not gain[best] > 0:
        return None
    return float(a[best] / b[best]), float(w @ x**2 - gain[best])


def least_scale(points: Points, low: int, high: int) -> float:
    """An s below which none is the best one; 0 where nothing is known.

    What lies beyond the last code is cut off, and the smaller s, the more that costs. Once it costs more than some
    other s does with all its rounding, no smaller s is worth a look.
    """
    x, w = points.values, points.counts  # [P]
    ends = [x[-1] / high if high > 0 else 0.0, x[0] / low if low < 0 else 0.0]
    s = max(ends) * np.geomspace(1.0, 1 / 64, TRIED)[:, None]  # [S, 1]
    if not s[-1] > 0:
        return 0.0
    errors = np.square(x - s * np.clip(np.rint(x / s), low, high)) @ w  # [S]
    beyond = np.maximum(x - s * high, 0.0) * (high > 0) + np.maximum(s * low - x, 0.0) * (low < 0)
    worse = np.square(beyond) @ w > errors.min() * (1 + 1e-9)
    return float(s[worse.argmax(), 0]) if worse.any() else 0.0
