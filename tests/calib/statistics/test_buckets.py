"""calib.statistics.buckets against counting one number after the other."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from calib.statistics import buckets
from calib.statistics.buckets import MANTISSA, PAGE, Buckets, middles


def _data() -> np.ndarray:
    rng = np.random.default_rng(0)
    wide = rng.normal(size=20_000) * 10.0 ** rng.integers(-44, 38, size=20_000)
    special = [0.0, -0.0, 1e-45, -1e-45, 1.0, -1.0, 1.0, 3.4e38, -3.4e38]
    return np.concatenate([wide, special, np.repeat(0.5, 3000)]).astype(np.float32)


def _key(x: np.float32) -> int:
    """Sign, exponent and first bits as an integer in the order of the numbers."""
    bits = int(np.abs(x).view(np.uint32)) >> (23 - MANTISSA)
    return -bits if x < 0 else bits


@pytest.mark.parametrize("waiting", [1, 700, 1 << 19])
def test_every_number_is_counted_once(waiting: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "WAITING", waiting)
    x = _data()[: 200 if waiting == 1 else None]
    seen = Buckets()
    for part in np.array_split(x, 9):
        seen.add(part)
    keys, counts = seen.counted()
    assert dict(zip(keys.tolist(), counts.tolist(), strict=True)) == Counter(map(_key, x))
    assert (np.diff(keys) > 0).all()


def test_reading_changes_nothing() -> None:
    x, once, often = _data(), Buckets(), Buckets()
    once.add(x)
    for part in np.array_split(x, 5):
        often.add(part)
        often.counted()
    for a, b in zip(once.counted(), often.counted(), strict=True):
        assert np.array_equal(a, b)


def test_a_bucket_stands_for_its_middle() -> None:
    x = _data()[:20_000]
    x = x[np.abs(x) > 1e-30]
    near = middles(np.array([_key(value) for value in x]))
    assert (np.abs(near - x) <= np.abs(x) * 2.0 ** -(MANTISSA + 1) * 1.001).all()
    assert middles(np.array([0])).tolist() == [0.0]


def test_memory_is_that_of_the_exponents_that_came() -> None:
    seen = Buckets()
    for _ in range(4):
        seen.add(np.full(1 << 19, 1.5, np.float32))
        seen.add(np.full(1 << 19, -1.5, np.float32))
    assert len(seen._counts) == 2 * PAGE
