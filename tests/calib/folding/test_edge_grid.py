"""calib.folding.edge_grid: 8-bit grids for tensors without a learned quantizer."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from calib.folding.edge_grid import EdgeGrid, edge_grid
from calib.grid import dequantize_linear, quantize_linear
from calib.statistics.observers import Observer, Points


def points(values: np.ndarray) -> Points:
    observer = Observer()
    observer.update(torch.from_numpy(values))
    return observer.points()


def error(values: np.ndarray, scale: float, zero_point: float) -> float:
    """Mean squared error of a grid on the data itself."""
    return float(
        np.mean(
            (dequantize_linear(quantize_linear(values, scale, zero_point, 0, 255), scale, zero_point) - values) ** 2
        )
    )


def data(kind: str) -> np.ndarray:
    rng = np.random.default_rng(4)
    x = rng.standard_normal(4000)
    return {
        "normal": x,
        "relu": x.clip(0),
        "negative": -np.abs(x) - 0.1,
        "positive": np.abs(x) + 2.0,
        "outliers": np.concatenate([x * 0.1, rng.standard_normal(8) * 30]),
        "one outlier": np.concatenate([x, [400.0]]),
        "far outlier": np.concatenate([x.repeat(50), [400.0]]),
        "heavy": rng.standard_cauchy(4000).clip(-1e3, 1e3),
        "lopsided": np.exp(1.5 * x) - 0.3,
    }[kind]


KINDS = ("normal", "relu", "negative", "positive", "outliers", "one outlier", "far outlier", "heavy", "lopsided")


@pytest.mark.parametrize("kind", KINDS)
def test_no_range_is_much_better(kind: str) -> None:
    values = data(kind)
    found = edge_grid(points(values))
    low, high = min(values.min(), 0.0), max(values.max(), 0.0)
    best = np.inf
    for down, up in itertools.product(np.geomspace(0.01, 1, 28), repeat=2):
        scale = (high * up - low * down) / 255
        best = min(best, error(values, scale, np.rint(-low * down / scale)))
    # The finest step of the search, 2 % of the range, costs 4 %.
    assert error(values, found.scale, found.zero_point) <= 1.05 * best
    # The histogram's view of it.
    assert found.error == pytest.approx(error(values, found.scale, found.zero_point), rel=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_real_zero_is_a_code_and_the_scale_a_float32(kind: str) -> None:
    found = edge_grid(points(data(kind)))
    assert 0 <= found.zero_point <= 255 and found.scale == np.float32(found.scale) > 0
    assert found.offset == -found.scale * found.zero_point


@pytest.mark.parametrize("kind", KINDS)
def test_keep_range_clips_nothing(kind: str) -> None:
    values = data(kind)
    found = edge_grid(points(values), keep_range=True)
    ends = np.array([min(values.min(), 0), max(values.max(), 0)])
    assert np.abs(
        dequantize_linear(quantize_linear(ends, found.scale, found.zero_point, 0, 255), found.scale, found.zero_point)
        - ends
    ).max() <= (
        found.scale * (1 + 1e-3)  # half a step for the rounding of Z, half a step for that of the value
    )


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 6.0), (-1.0, 1.0), (0.0, np.inf), (-np.inf, 0.5), (0.25, 1.5), (-2.0, -0.5)]
)
@pytest.mark.parametrize("keep_range", [False, True])
def test_a_clamp_fits_into_the_range(low: float, high: float, keep_range: bool) -> None:
    """What the data hold after the clamp has a code.

    The range stays inside the clamp (and zero) but for the rounding of Z.
    """
    values = (np.random.default_rng(6).standard_normal(4000) * 3).clip(low, high)
    found = edge_grid(points(values), low=low, high=high, keep_range=keep_range)
    bottom, top = -found.scale * found.zero_point, found.scale * (255 - found.zero_point)
    assert min(low, 0) - found.scale <= bottom <= 0 <= top <= max(high, 0) + found.scale
    assert error(values, found.scale, found.zero_point) < (found.scale * 0.6) ** 2 + 1e-3 * (not keep_range)
    ends = quantize_linear(values[[values.argmin(), values.argmax()]], found.scale, found.zero_point, 0, 255)
    assert (
        not keep_range
        or np.abs(dequantize_linear(ends, found.scale, found.zero_point) - [values.min(), values.max()]).max()
        <= found.scale
    )


@pytest.mark.parametrize("value", [3.0, -3.0, 1e-20, 1e20])
def test_constant_data(value: float) -> None:
    found = edge_grid(points(np.full(50, value)))
    assert found.zero_point == (0 if value > 0 else 255)
    codes = quantize_linear(np.float64(value), found.scale, found.zero_point, 0, 255)
    assert dequantize_linear(codes, found.scale, found.zero_point) == pytest.approx(value, rel=1e-6)


def test_zeros_have_a_grid() -> None:
    assert edge_grid(points(np.zeros(10))) == EdgeGrid(1.0, 0, 0.0)


def test_data_below_a_clamp_at_zero_have_a_grid() -> None:
    assert edge_grid(points(np.full(10, -2.0)), low=0.0) == EdgeGrid(1.0, 0, 0.0)


def test_counts_weigh() -> None:
    """A rare outlier is clipped, a frequent one is not."""
    values = np.append(np.linspace(-1, 1, 801), 50.0)
    rare, often = np.append(np.full(801, 1e6), 1.0), np.ones(802)
    assert edge_grid(Points(values, rare)).scale < 0.02 < edge_grid(Points(values, often)).scale
