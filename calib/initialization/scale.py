"""argmin over s of Σ w·(x - s·r(x))² for integer codes r in low … high, over every s, exactly.

With β = 0, r = q; with β = s·z, r = q + z.

As s falls from infinity, a code moves only where x/s passes a tie: |x|/s = k + 1/2. Between two ties the codes are
fixed, and with A = Σ w·x·r and B = Σ w·r² the best s for them is A/B, with the error

    Σ w·x² - A²/B

A tie adds w·|x| to A and w·((k + 1)² - k²) to B, so running sums over the sorted ties give the error for the codes of
all s. The smallest one is the optimum: the nearest codes of its s = A/B can only be better, and they are among those
that are tried.
"""

from __future__ import annotations

import numpy as np

from calib.statistics.observers import Points


def best_scale(points: Points, low: int, high: int) -> tuple[float, float] | None:
    """(s, error), where the error is summed over the points.

    None if no positive s is better than x̂ = 0 (where all points are below zero and the codes start at 0, say).
    """
    x, w = points.values, points.counts  # [P]
    first = min(max(0, low), high)  # the code of everything as s -> infinity
    ties, products, squares = [np.array([np.inf])], [np.array([(w @ x) * first])], [np.array([w.sum() * first**2])]
    for side, start, stop in ((x > 0, first, high), (x < 0, -first, -low)):
        k = np.arange(max(start, 0), stop, dtype=np.float64)  # [K]; away from zero: k -> k + 1
        size, weight = np.abs(x[side])[:, None], w[side][:, None]  # [P', 1]
        ties.append((size / (k + 0.5)).ravel())
        products.append(np.broadcast_to(size * weight, (size.shape[0], len(k))).ravel())
        squares.append((weight * (2 * k + 1)).ravel())
    order = np.argsort(-np.concatenate(ties))
    a, b = np.cumsum(np.concatenate(products)[order]), np.cumsum(np.concatenate(squares)[order])
    gain = np.divide(a * np.abs(a), b, out=np.zeros_like(a), where=b > 0)  # < 0 where A is: s = A/B must be positive
    best = int(gain.argmax())
    if not gain[best] > 0:
        return None
    return float(a[best] / b[best]), float(w @ x**2 - gain[best])
