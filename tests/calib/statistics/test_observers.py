"""Streaming statistics against numpy on all the data at once."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch

from calib import QuantizationError
from calib.statistics.observers import POINTS, Observer, Points, merged, points_of


def observe(chunks: Iterable[Any]) -> Observer:
    observer = Observer("layer.input")
    for chunk in chunks:
        observer.update(torch.as_tensor(chunk))
    return observer


def data(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate((rng.normal(size=3000), rng.normal(3, 5, size=3000), rng.exponential(20, size=3000))).astype(
        np.float32
    )


@pytest.mark.parametrize("parts", [1, 7, 500])
def test_moments_do_not_depend_on_the_batches(parts: int) -> None:
    x = data()
    seen = observe(np.array_split(x, parts))
    wide = x.astype(np.float64)
    assert (seen.min, seen.max, seen.count) == (wide.min(), wide.max(), wide.size)
    assert seen.max_abs == np.abs(wide).max()
    # float64 sums in another order
    assert seen.mean == pytest.approx(wide.mean(), rel=1e-12)
    assert seen.mean_abs == pytest.approx(np.abs(wide).mean(), rel=1e-12)
    assert seen.std == pytest.approx(wide.std(), rel=1e-12)


def test_the_number_of_threads_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calib.statistics.observers.CHUNK", 1000)
    x, before, found = data(), torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            seen = observe([x])
            found.append((seen.mean, seen.std, seen.loss, seen.points().values.tolist(), seen.points().counts.tolist()))
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


def test_std_of_data_far_from_zero() -> None:
    x = np.random.default_rng(0).normal(1e4, 1.0, size=5000).astype(np.float32)
    assert observe(np.array_split(x, 9)).std == pytest.approx(x.astype(np.float64).std(), rel=1e-10)


def spread(values: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Σ w·(x - mean)²."""
    center = np.average(values, weights=weights)
    return float(((values - center) ** 2).sum() if weights is None else ((values - center) ** 2 @ weights))


@pytest.mark.parametrize("order", ["upward", "downward", "shuffled"])
@pytest.mark.parametrize("parts", [1, 4, 50])
def test_points_lose_nothing_but_what_loss_says(order: Any, parts: int) -> None:
    x = data()
    x = (
        np.random.default_rng(1).permutation(x)
        if order == "shuffled"
        else np.sort(x)[:: 1 if order == "upward" else -1].copy()
    )
    seen = observe(np.array_split(x, parts))
    points, wide = seen.points(), x.astype(np.float64)
    assert points.values.size <= POINTS < x.size
    assert points.counts.sum() == x.size and (points.counts > 0).all()
    assert (points.values * points.counts).sum() == pytest.approx(wide.sum(), rel=1e-10)
    assert (np.diff(points.values) > 0).all()
    assert points.values[0] >= seen.min and points.values[-1] <= seen.max
    # Σ (x - mean)² = that of the points + Σ (x - its point)²
    assert spread(points.values, points.counts) + seen.loss == pytest.approx(spread(wide), rel=1e-12)
    # 256 codes at best: POINTS / 256 points a code, error ∝ 1 / points²
    assert 0 < seen.loss / spread(wide) < (256 / POINTS) ** 2 * 1e-4


@pytest.mark.parametrize("limit", [8, 64, 512])
def test_errors_on_points_are_within_the_loss_of_those_on_samples(limit: int) -> None:
    x = data().astype(np.float64)
    seen = Observer("layer.input", limit)
    for part in np.array_split(x.astype(np.float32), 9):
        seen.update(torch.from_numpy(part))
    points = seen.points()
    bound, rng = np.sqrt(seen.loss / seen.count), np.random.default_rng(0)
    differences = []
    for _ in range(100):
        s, b, top = rng.uniform(0.1, 20), rng.uniform(-20, 5), rng.integers(1, 256)
        on_samples, on_points = (np.abs(np.clip(np.rint((v - b) / s), 0, top) * s + b - v) for v in (x, points.values))
        differences.append(
            abs(np.sqrt((on_samples**2).mean()) - np.sqrt(np.average(on_points**2, weights=points.counts)))
        )
    assert max(differences) <= bound * (1 + 1e-9)
    # The bound is no idle one; with more points the differences fall faster.
    assert limit > 8 or max(differences) > 0.1 * bound


def test_few_values_are_kept_exactly() -> None:
    x = np.random.default_rng(0).integers(0, POINTS, size=40_000).astype(np.float32) / 7
    values, counts = np.unique(x.astype(np.float64), return_counts=True)
    seen = observe(np.array_split(x, 6))
    assert seen.points().values.tolist() == values.tolist() and seen.points().counts.tolist() == counts.tolist()
    assert seen.loss == 0


def test_a_spike_keeps_its_value() -> None:
    x = np.maximum(data(), 0)
    points = observe(np.array_split(x, 5)).points()
    assert points.values[points.counts.argmax()] == pytest.approx(0, abs=1e-3)  # the ReLU's zeros, of values up to 150
    assert points.counts.max() >= (x == 0).sum()
    shifted = observe([np.full(10_000, -0.278, dtype=np.float32), np.array([5.0], dtype=np.float32)]).points()
    assert shifted.values.tolist() == [np.float32(-0.278), 5.0]


def test_an_outlier_keeps_a_point_of_its_own() -> None:
    x = np.append(np.random.default_rng(0).normal(size=1 << 18), 1000.0).astype(np.float32)
    alone, together = observe([x[:-1]]), observe([x])
    assert together.points().values[-1] == 1000 and together.points().counts[-1] == 1
    assert together.loss <= 1.5 * alone.loss


def test_memory_does_not_grow_with_the_batches() -> None:
    """Fifty batches that reach further and further: the same state and the same peak as after ten."""
    seen, rng = Observer("layer.input"), np.random.default_rng(0)
    sizes: list[int] = []
    peaks: list[int] = []
    tracemalloc.start()
    try:
        for batch in range(50):
            seen.update(torch.from_numpy((rng.normal(size=20_000) * (1 + batch)).astype(np.float32)))
            if batch in (9, 49):
                state = vars(seen.points()) | {name: value for name, value in vars(seen).items() if name != "_points"}
                sizes.append(sum(np.size(value) for value in state.values()))
                peaks.append(tracemalloc.get_traced_memory()[1])
                tracemalloc.reset_peak()
    finally:
        tracemalloc.stop()
    assert sizes[1] <= sizes[0] <= 2 * POINTS + 20
    assert peaks[1] <= 1.2 * peaks[0]
    assert seen.count == 50 * 20_000


def test_many_batches_lose_no_more_than_one() -> None:
    """Old points are not merged again and again: the loss per sample stays that of a single batch."""
    x = np.random.default_rng(0).normal(size=400_000).astype(np.float32)
    one, many = observe([x]), observe(np.array_split(x, 100))
    assert many.loss <= 3 * one.loss


def test_a_constant_first_batch_then_data() -> None:
    seen = observe(
        [np.zeros(100, dtype=np.float32), np.full(3, 7.0, dtype=np.float32), np.array([-2.0, 6.0], dtype=np.float32)]
    )
    points = seen.points()
    assert points.values.tolist() == pytest.approx([-2.0, 0.0, 6.0, 7.0])
    assert points.counts.tolist() == [1, 100, 1, 3]


def test_empty_tensors_are_skipped() -> None:
    seen = observe([np.zeros((0, 3), dtype=np.float32), np.ones((1, 3), dtype=np.float32)])
    assert seen.count == 3


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_named(bad: float) -> None:
    with pytest.raises(QuantizationError, match=r"^layer\.input: values are not finite"):
        observe([np.array([1.0, bad], dtype=np.float32)])


def test_half_types() -> None:
    seen = observe([torch.tensor([1.0, 2.0], dtype=torch.bfloat16)])
    assert seen.mean == 1.5


@pytest.mark.parametrize("count", [1, 40, 300, 5000])
def test_points_of_a_row_are_those_of_an_observer(count: int) -> None:
    """To the bit, with equal values and both zeros among them."""
    rng = np.random.default_rng(count)
    x = np.concatenate([rng.normal(size=count), np.zeros(3), -np.zeros(3), rng.integers(-3, 3, count)]).astype(
        np.float32
    )
    seen = Observer("a.weight", 100)
    seen.update(torch.from_numpy(x))
    points = points_of(np.sort(x), 100)
    assert np.array_equal(points.values, seen.points().values) and np.array_equal(points.counts, seen.points().counts)


def _merged(values: list[float], counts: list[float], limit: int) -> tuple[list[float], list[float]]:
    """`merged`, one point after the other."""
    while len(values) > limit:
        pairs = list(zip(values, values[1:], counts, counts[1:], strict=False))
        costs = [m * n / (m + n) * ((b - a) * (b - a)) for a, b, m, n in pairs]
        most = sorted(costs)[len(values) - limit - 1]
        kept_values, kept_counts, i = [], [], 0
        while i < len(values):
            two = i < len(costs) and costs[i] <= most
            both = sum(counts[i : i + 2]) if two else counts[i]
            kept_values.append(values[i] + (values[i + 1] - values[i]) * (counts[i + 1] / both) if two else values[i])
            kept_counts.append(both)
            i += 2 if two else 1
        values, counts = kept_values, kept_counts
    return values, counts


@pytest.mark.parametrize(("count", "limit"), [(5, 2), (300, 299), (300, 100), (1000, 64)])
def test_points_merge_where_that_costs_least(count: int, limit: int) -> None:
    """To the bit; the points that are given stay as they are."""
    rng = np.random.default_rng(count)
    values, counts = np.sort(rng.standard_t(2, size=count)), rng.integers(1, 5, size=count).astype(np.float64)
    given = Points(values.copy(), counts.copy())
    found, _ = merged(given, limit)
    assert (found.values.tolist(), found.counts.tolist()) == _merged(values.tolist(), counts.tolist(), limit)
    assert np.array_equal(given.values, values) and np.array_equal(given.counts, counts)
