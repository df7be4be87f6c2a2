"""Statistics that are the same for any order and any batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from calib.errors import QuantizationError
from calib.statistics.buckets import MANTISSA
from calib.statistics.counting_observer import CountingObserver
from calib.statistics.observers import Observer


def _seen(*parts: torch.Tensor, limit: int = 4096) -> CountingObserver:
    observer = CountingObserver("x", limit)
    for part in parts:
        observer.update(part)
    return observer


def _data() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(20_000, generator=generator) * torch.tensor(10.0) ** torch.randint(
        -6, 4, (20_000,), generator=generator
    )
    return torch.cat([wide, torch.zeros(50), -torch.zeros(50), torch.full((7,), 1e-42)])


def test_order_and_batches_make_no_difference() -> None:
    x = _data()
    mixed = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(1))]
    one, other = _seen(x, limit=300), _seen(*mixed.split(701), limit=300)
    for a, b in zip(
        (one.points().values, one.points().counts), (other.points().values, other.points().counts), strict=True
    ):
        assert np.array_equal(a, b)
    assert len(one.points().values) <= 300
    assert all(
        getattr(one, name) == getattr(other, name) for name in ("count", "min", "max", "mean", "mean_abs", "std")
    )


def test_every_value_is_near_its_bucket() -> None:
    """Each value alone: its point is at most 2^-13 of it away, or 0 for what is next to 0."""
    for value in _data()[:100].tolist():
        (point,) = _seen(torch.tensor([value], dtype=torch.float32)).points().values
        assert abs(point - np.float32(value)) <= abs(value) * 2.0 ** -(MANTISSA + 1) * 1.001


def test_statistics_are_those_of_the_data() -> None:
    x = _data()
    found, expected = _seen(x), x.double()
    assert found.count == len(x) and found.min == float(x.min()) and found.max == float(x.max())
    assert found.points().counts.sum() == len(x)
    assert found.mean_abs == pytest.approx(float(expected.abs().mean()), rel=1e-3)
    assert found.std == pytest.approx(float(expected.std(correction=0)), rel=1e-3)
    assert found.mean == pytest.approx(float(expected.mean()), abs=1e-3 * found.std)


def test_it_gives_the_grid_errors_of_the_streaming_observer() -> None:
    x = torch.randn(50_000, generator=torch.Generator().manual_seed(2))
    streaming = Observer("x")
    streaming.update(x)
    for scale in (0.01, 0.05, 0.3):
        errors = []
        for points in (_seen(x).points(), streaming.points()):
            rounded = np.rint(points.values / scale) * scale
            errors.append(float((np.square(rounded - points.values) * points.counts).sum() / points.counts.sum()))
        assert errors[0] == pytest.approx(errors[1], rel=0.02)


def test_what_is_not_finite_is_an_error() -> None:
    with pytest.raises(QuantizationError, match="not finite"):
        _seen(torch.tensor([1.0, float("inf")]))
