"""Streaming statistics against numpy on all the data at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from calib import QuantizationError
from calib.observers import BINS, Observer


def observe(chunks) -> Observer:
    observer = Observer("layer.input")
    for chunk in chunks:
        observer.update(torch.as_tensor(chunk))
    return observer


def data(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate((rng.normal(size=3000), rng.normal(3, 5, size=3000), rng.exponential(20, size=3000))).astype(np.float32)


@pytest.mark.parametrize("parts", [1, 7, 500])
def test_moments_do_not_depend_on_the_batches(parts):
    x = data()
    seen = observe(np.array_split(x, parts))
    wide = x.astype(np.float64)
    assert (seen.min, seen.max, seen.count) == (wide.min(), wide.max(), wide.size)
    assert seen.max_abs == np.abs(wide).max()
    # float64 sums in another order
    assert seen.mean == pytest.approx(wide.mean(), rel=1e-12)
    assert seen.mean_abs == pytest.approx(np.abs(wide).mean(), rel=1e-12)
    assert seen.std == pytest.approx(wide.std(), rel=1e-12)


def test_std_of_data_far_from_zero():
    x = np.random.default_rng(0).normal(1e4, 1.0, size=5000).astype(np.float32)
    assert observe(np.array_split(x, 9)).std == pytest.approx(x.astype(np.float64).std(), rel=1e-10)


@pytest.mark.parametrize("order", [1, -1], ids=["upward", "downward"])
def test_histogram_grows_and_loses_nothing(order):
    x = np.sort(data())[::order].copy()
    seen = observe(np.array_split(x, 50))
    points = seen.points()
    assert points.counts.sum() == x.size
    assert (points.values * points.counts).sum() == pytest.approx(x.astype(np.float64).sum(), rel=1e-10)
    assert (np.diff(points.values) > 0).all()
    assert points.values.size <= BINS
    # each value is within one bin of its point; merging leaves at least a quarter of the bins in use (both ends may be empty)
    width = (float(x.max()) - float(x.min())) / (BINS / 4)
    restored = np.repeat(points.values, points.counts.astype(int))
    assert np.abs(restored - np.sort(x)).max() <= width


def test_a_spike_keeps_its_value():
    x = np.maximum(data(), 0)
    points = observe(np.array_split(x, 5)).points()
    spike = points.counts.argmax()
    assert points.counts[spike] >= (x == 0).sum()
    assert points.values[spike] == pytest.approx(0, abs=float(x.max()) / BINS)
    shifted = observe([np.full(1000, -0.278, dtype=np.float32), np.array([5.0], dtype=np.float32)]).points()
    assert shifted.values[0] == pytest.approx(np.float32(-0.278), rel=1e-12)


def test_a_constant_first_batch_then_data():
    seen = observe([np.zeros(100, dtype=np.float32), np.full(3, 7.0, dtype=np.float32), np.array([-2.0, 6.0], dtype=np.float32)])
    points = seen.points()
    assert points.values.tolist() == pytest.approx([-2.0, 0.0, 6.0, 7.0])
    assert points.counts.tolist() == [1, 100, 1, 3]


def test_empty_tensors_are_skipped():
    seen = observe([np.zeros((0, 3), dtype=np.float32), np.ones((1, 3), dtype=np.float32)])
    assert seen.count == 3


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_named(bad):
    with pytest.raises(QuantizationError, match=r"^layer\.input: values are not finite"):
        observe([np.array([1.0, bad], dtype=np.float32)])


def test_half_types():
    seen = observe([torch.tensor([1.0, 2.0], dtype=torch.bfloat16)])
    assert seen.mean == 1.5
