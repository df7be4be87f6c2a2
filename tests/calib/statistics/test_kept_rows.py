"""Rows that are kept are the same for any order and any batches."""

from __future__ import annotations

import numpy as np
import pytest

from calib.statistics import kept_rows
from calib.statistics.kept_rows import KeptRows


def seen(*parts: np.ndarray) -> KeptRows:
    kept = KeptRows()
    for part in parts:
        kept.look(part)
    return kept


def data() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((300, 5)).astype(np.float32)


def test_order_and_batches_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_rows, "ROWS", 64)
    x = data()
    mixed = x[np.random.default_rng(1).permutation(len(x))]
    one, other = seen(x), seen(*(part[None] for part in np.array_split(mixed, 41)))
    assert np.array_equal(one.rows, other.rows) and one.rows.shape == (64, 5)
    for kept in (one, other):
        assert np.array_equal(kept.low, x.min(0)) and np.array_equal(kept.high, x.max(0))


def test_all_rows_are_kept_where_there_are_few_and_equal_ones_once() -> None:
    x = data()
    kept = seen(x, x[:9], x[:0])
    assert sorted(map(tuple, kept.rows)) == sorted(map(tuple, x))
    assert not len(seen(x[:0]).rows) and not len(seen().low)


def test_wide_rows_are_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_rows, "VALUES", 50)
    assert seen(data()).rows.shape == (10, 5)


def test_what_is_kept_does_not_depend_on_how_large_a_row_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_rows, "ROWS", 400)
    x = np.concatenate([np.full((2000, 3), 1.0), np.full((2000, 3), 100.0)])
    x += np.random.default_rng(0).standard_normal(x.shape)
    large = (seen(x).rows.mean(1) > 50).mean()
    assert 0.4 < large < 0.6
