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
    below, above = int(np.searchsorted(x, 0.0)), int(np.searchsorted(x, 0.0, side="right"))
    start = np.array([np.inf]), np.array([(w @ x) * first]), np.array([w.sum() * first**2])
    more = _ties(x[above:], w[above:], range(max(first, 0), high), least)
    less = _ties(x[:below], w[:below], range(max(-first, 0), -low), least)
    ties, products, squares = (np.concatenate(parts) for parts in zip(start, more, less, strict=True))
    order = descending(ties) if high - low >= MANY else np.argsort(-ties, kind="stable")
    a, b = np.cumsum(products[order]), np.cumsum(squares[order])
    zeros = int(np.searchsorted(b, 0.0, side="right"))  # where everything has the code 0
    a, b = a[zeros:], b[zeros:]
    gain = a * np.abs(a) / b  # < 0 where A is: s = A/B must be positive
    best = int(gain.argmax()) if len(gain) else -1
    if best < 0 or not gain[best] > 0:
        return None
    return float(a[best] / b[best]), float(w @ x**2 - gain[best])


def _ties(x: np.ndarray, w: np.ndarray, codes: range, least: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(ties above `least`, what they add to A, what they add to B) where points of one sign leave these |codes|, k ->
    k + 1; by codes, and of each code as the points are.
    """
    k, size = np.asarray(codes, np.float64), np.abs(x)
    if len(size) and size[0] > size[-1]:
        first = np.zeros(len(k), np.intp)
        number = len(size) - np.searchsorted(size[::-1], least * (k + 0.5), side="right")
    else:
        first = np.searchsorted(size, least * (k + 0.5), side="right")
        number = len(size) - first
    place = np.arange(number.sum()) + np.repeat(first + number - np.cumsum(number), number)  # among the points
    k = np.repeat(k, number)
    return size[place] / (k + 0.5), (size * w)[place], w[place] * (2 * k + 1)


def descending(ties: np.ndarray) -> np.ndarray:
    """np.argsort(-ties, kind="stable") of numbers >= 0, along the last axis.

    Of many sorting integers is faster: the first bits of a tie, inverted, and its place after them. Where two ties
    differ in the other bits alone, it is done again.
    """
    count = ties.shape[-1]
    places = max(1, (count - 1).bit_length())
    keys = ~ties.view(np.uint64) >> np.uint64(places) << np.uint64(places) | np.arange(count, dtype=np.uint64)
    keys.sort()
    order: np.ndarray = (keys & np.uint64((1 << places) - 1)).astype(np.intp)
    found = np.take_along_axis(ties, order, -1)
    if (found[..., 1:] > found[..., :-1]).any():
        return np.argsort(-ties, kind="stable")
    return order


def least_scale(points: Points, low: int, high: int) -> float:
    """An s below which none is the best one; 0 where nothing is known.

    What lies beyond the last code is cut off, and the smaller s, the more that costs. Once it costs more than some
    other s does with all its rounding, no smaller s is worth a look.
    """
    x, w = points.values, points.counts  # [P]
    ends = [x[-1] / high if high > 0 else 0.0, x[0] / low if low < 0 else 0.0]
    s = max(ends) * np.geomspace(1.0, 1 / 64, TRIED)  # [S]
    if not s[-1] > 0:
        return 0.0
    beyond = _cut_off(x, w, s * high) if high > 0 else np.zeros(len(s))
    if low < 0:
        beyond = beyond + _cut_off(-x[::-1], w[::-1], s * -low)
    tried = s[:: TRIED // 8, None]  # [S, 1]
    errors = np.square(x - tried * np.clip(np.rint(x / tried), low, high)) @ w
    worse = beyond > errors.min() * (1 + 1e-9)
    return float(s[worse.argmax()]) if worse.any() else 0.0


def _cut_off(x: np.ndarray, w: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Σ w·(x - end)² of the ascending x beyond each end."""
    place = np.searchsorted(x, ends)
    number, first, second = (np.append(np.cumsum((w * x**p)[::-1])[::-1], 0.0)[place] for p in (0, 1, 2))
    return np.asarray(second - 2 * ends * first + ends**2 * number)
