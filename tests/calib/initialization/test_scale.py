"""calib.initialization.scale: the optimum over every scale, against brute force."""

from __future__ import annotations

import numpy as np
import pytest

from calib.initialization.scale import best_scale, descending, least_scale
from calib.initialization.search import best_grid
from calib.statistics.observers import Points
from support.brute_force import squared_error


@pytest.mark.parametrize(("low", "high"), [(-8, 7), (-2, 1), (0, 15), (-128, 127), (3, 10), (-12, -5)])
def test_best_scale_is_the_optimum_over_s(low: int, high: int) -> None:
    """Also for codes that do not hold 0, those of an offset s·z.

    The error that it returns is that of its s on all points.
    """
    x = np.sort(np.random.default_rng(1).standard_t(3, size=60)) + (low > 0) - (high < 0)
    counts = np.random.default_rng(2).integers(1, 9, size=60)
    found = best_scale(Points(x, counts.astype(np.float64)), low, high)
    assert found is not None
    every = np.repeat(x, counts)
    assert found[1] == pytest.approx(squared_error(every, found[0], 0.0, low, high) * every.size, rel=1e-6)
    tried = np.abs(x).max() * np.geomspace(1e-4, 3, 6000)
    assert found[1] <= min(squared_error(every, s, 0.0, low, high) for s in tried) * every.size * (1 + 1e-9)


def _over_all_ties(points: Points, low: int, high: int) -> tuple[float, float] | None:
    """`best_scale` in its plainest form, in the same order of additions."""
    x, w, first = points.values, points.counts, min(max(0, low), high)
    ties, products, squares = [np.array([np.inf])], [np.array([(w @ x) * first])], [np.array([w.sum() * first**2])]
    for side, start, stop in ((x > 0, first, high), (x < 0, -first, -low)):
        k = np.arange(max(start, 0), stop, dtype=np.float64)[:, None]
        size, weight = np.abs(x[side]), w[side]
        ties.append((size / (k + 0.5)).ravel())
        products.append(np.tile(size * weight, len(k)))
        squares.append((weight * (2 * k + 1)).ravel())
    order = np.argsort(-np.concatenate(ties), kind="stable")
    a, b = np.cumsum(np.concatenate(products)[order]), np.cumsum(np.concatenate(squares)[order])
    gain = np.divide(a * np.abs(a), b, out=np.zeros_like(a), where=b > 0)
    best = int(gain.argmax())
    return (float(a[best] / b[best]), float(w @ x**2 - gain[best])) if gain[best] > 0 else None


DATA = {
    "tails": lambda rng: rng.standard_t(3, size=500),
    "equal ties": lambda rng: rng.integers(-20, 20, size=500) / 7,
    "one sign": lambda rng: rng.exponential(size=300),
    "below zero": lambda rng: -rng.exponential(size=300),
    "one number": lambda rng: np.array([0.7]),
}


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize(("low", "high"), [(-8, 7), (-2, 1), (0, 15), (-128, 127), (0, 255), (3, 10), (-12, -5)])
def test_what_is_left_out_changes_no_bit(data: str, low: int, high: int) -> None:
    """Ties that cannot be the best are not sorted; equal ones are added in their order all the same."""
    rng = np.random.default_rng(4)
    x, counts = np.unique(DATA[data](rng).astype(np.float32).astype(np.float64), return_counts=True)
    points = Points(x, counts * rng.integers(1, 9, size=len(x)).astype(np.float64))
    assert best_scale(points, low, high) == _over_all_ties(points, low, high)


def test_ties_indescending_order_are_those_of_a_stable_sort() -> None:
    """Also where they differ in their last bits alone."""
    rng = np.random.default_rng(5)
    base = np.repeat(rng.exponential(size=300), 3)
    for ties in (base, np.concatenate([base, np.nextafter(base, 9), np.nextafter(base, 0), [np.inf]]), base[:1]):
        mixed = rng.permutation(ties)
        assert np.array_equal(descending(mixed), np.argsort(-mixed, kind="stable"))


@pytest.mark.parametrize(("low", "high"), [(-128, 127), (-127, 127), (0, 255)])
@pytest.mark.parametrize("tails", [1.5, 4.0, 100.0])
def test_no_scale_below_the_least_one_is_best(low: int, high: int, tails: float) -> None:
    """And most of the ties lie below it, which is what it is for."""
    x = np.sort(np.random.default_rng(3).standard_t(tails, size=1000))
    x = np.abs(x) if low == 0 else x
    x.sort()
    points = Points(x, np.ones(x.size))
    least, found = least_scale(points, low, high), best_scale(points, low, high)
    assert found is not None and least < found[0] < 4 * least
    tried = least * np.geomspace(1e-3, 1.0, 1000)
    assert found[1] < min(squared_error(x, s, 0.0, low, high) for s in tried) * x.size
    ties = np.abs(x)[:, None] / (np.arange(max(high, -low)) + 0.5)
    assert (ties > least).mean() < 0.4


@pytest.mark.parametrize(
    ("x", "low", "high"), [([0.0], -8, 7), ([-3.0, -1.0], 0, 15), ([-1.0, 0.0], 2, 5), ([2.0], -7, -3)]
)
def test_no_positive_scale_is_better_than_zero(x: list[float], low: int, high: int) -> None:
    points = Points(np.array(x), np.ones(len(x)))
    assert best_scale(points, low, high) is None
    assert best_grid(points, low, high, "none", [(0.5, 0.0)]) == (0.5, 0.0)
    with pytest.raises(ValueError, match="no start"):
        best_grid(points, low, high, "none")
