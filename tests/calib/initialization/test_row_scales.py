"""calib.initialization.row_scales: of many rows at once the optimum over every scale."""

from __future__ import annotations

import numpy as np
import pytest

from calib.initialization.row_scales import _Rows, best_scales
from calib.initialization.scale import best_scale
from calib.statistics.observers import Points
from support.brute_force import squared_error

BITS = [(-2, 1), (-4, 3), (-8, 7), (-7, 7), (-16, 15)]


def _rows(shape: tuple[int, int]) -> np.ndarray:
    """Ascending, float32: of several distributions and sizes, some with an outlier, one of zeros, one of one number."""
    rng = np.random.default_rng(shape)
    rows = rng.standard_t(rng.choice([1.0, 3.0, 100.0], size=(shape[0], 1)), size=shape)
    rows *= rng.exponential(size=(shape[0], 1)) ** 4
    rows += rng.normal(size=(shape[0], 1)) * rows.std(1, keepdims=True) * (rng.random((shape[0], 1)) < 0.3)
    rows[0], rows[1] = 0.0, 0.7
    rows[2] = np.abs(rows[2])
    rows[3] = -np.abs(rows[3])
    rows[4] = 1 / np.sqrt(1 + np.arange(shape[1]))  # a scale for its large numbers is bad for its small ones
    rows[5, : shape[1] // 2] = 0.0
    return np.sort(rows.astype(np.float32), 1)


@pytest.mark.parametrize("size", [1, 9, 27, 400, 3000])
@pytest.mark.parametrize(("low", "high"), BITS)
def test_scales_of_rows_are_those_of_each_row(size: int, low: int, high: int) -> None:
    """To what float64 rounds off; also of rows that are long enough for scales to be ruled out."""
    rows = _rows((20, size))
    found = best_scales(rows, low, high)
    for row, s in zip(rows.astype(np.float64), found, strict=True):
        values, counts = np.unique(row, return_counts=True)
        best = best_scale(Points(values, counts.astype(np.float64)), low, high)
        if best is None:
            assert s == 0
            continue
        error = squared_error(row, float(s), 0.0, low, high) * row.size
        assert error <= best[1] + 1e-12 * np.square(row).sum()
        assert s == pytest.approx(best[0], rel=1e-10)


def test_rows_on_a_grid_get_it_back() -> None:
    codes = np.sort(np.random.default_rng(0).integers(-8, 8, size=(5, 2000)), 1)
    scales = np.array([1e-6, 0.3, 1.0, 7.0, 1e9])
    assert best_scales(codes * scales[:, None], -8, 7) == pytest.approx(scales, rel=1e-12)


@pytest.mark.parametrize(("low", "high"), BITS)
def test_no_scale_that_is_ruled_out_is_best(low: int, high: int) -> None:
    """And of usual weights nearly all are."""
    rows = _rows((20, 3000)).astype(np.float64)
    least, most = _Rows(rows, low, high)._window()
    for row, s, bottom, top in zip(rows[1:], best_scales(rows, low, high)[1:], least[1:], most[1:], strict=True):
        assert bottom <= s <= top
        error = squared_error(row, float(s), 0.0, low, high)
        tried = [*(bottom * np.geomspace(1e-2, 1.0, 50)), *(top * np.geomspace(1.0, 1e2, 50))]
        assert all(squared_error(row, t, 0.0, low, high) >= error * (1 - 1e-9) for t in tried if t > 0)
    weights = np.sort(np.random.default_rng(1).normal(size=(10, 3000)), 1)
    least, most = _Rows(weights, low, high)._window()
    assert (most < 1.6 * least).all()


def test_portions_of_rows_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = _rows((20, 400))
    whole = best_scales(rows, -8, 7)
    monkeypatch.setattr("calib.initialization.row_scales.NUMBERS", 900)
    assert np.array_equal(best_scales(rows, -8, 7), whole)
