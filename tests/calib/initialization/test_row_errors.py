"""Errors of layers' outputs, and the grids that they choose."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from calib.initialization.row_errors import RowErrors, widen_grid
from calib.initialization.rules import activation_grid
from calib.statistics.counting_observer import CountingObserver
from lsq_export.qat.quantizer import Quantizer


def test_each_row_counts_alike() -> None:
    rows = np.array([[1.0, 2.0], [100.0, 0.0], [0.0, 0.0]], np.float32)  # the last one has no output to compare with
    weight = np.array([[1.0, 0.0], [0.0, 3.0]], np.float32)
    errors = RowErrors(rows, weight)
    expected = ((1 + 9 * 4) / (1 + 36) + 25 / 100**2) / 2
    assert errors.of_inputs(np.array([[2.0, 0.0], [105.0, 0.0]], np.float32)) == pytest.approx(expected)
    assert errors.of_weight(weight * 1.5) == pytest.approx(0.25)
    assert errors.of_inputs(errors.rows) == errors.of_weight(weight) == 0


OUTLIER, CHANNELS = 2, 1024


def rows_with_outliers() -> np.ndarray:
    """One channel of every tenth row is larger than what the grid of the least squared error holds."""
    rows = 0.3 * np.random.default_rng(0).standard_normal((1000, CHANNELS)).astype(np.float32)
    rows[::10, OUTLIER] = 4.0
    return rows


def grid_of(rows: np.ndarray, quantizer: Quantizer) -> tuple[float, float]:
    seen = CountingObserver("x")
    seen.update(torch.from_numpy(rows))
    quantizer.set_grid(*activation_grid(quantizer, seen, "mse"))
    return quantizer.scale.item(), quantizer.offset.item()


@pytest.mark.parametrize(("weight", "wider"), [(20.0, True), (0.05, False)])
def test_the_grid_is_as_wide_as_the_layers_need_it(weight: float, wider: bool) -> None:
    rows, quantizer = rows_with_outliers(), Quantizer.activation("layer.input", 6)
    scale, offset = grid_of(rows, quantizer)
    assert scale * quantizer.qmax + offset < 3.5
    layer = np.random.default_rng(1).standard_normal((4, CHANNELS)).astype(np.float32)
    layer[:, OUTLIER] *= weight
    errors = RowErrors(rows, layer)
    before = errors.of_inputs(quantizer(torch.from_numpy(rows)).detach().numpy())
    widen_grid(quantizer, errors, float(rows.min()), float(rows.max()))
    assert (quantizer.scale.item() > scale) == wider
    after = errors.of_inputs(quantizer(torch.from_numpy(rows)).detach().numpy())
    assert after < before if wider else after == before


def test_symmetric_and_fixed_grids_stay_what_they_are() -> None:
    rows = rows_with_outliers()
    errors = RowErrors(rows[::10], np.eye(CHANNELS, dtype=np.float32)[OUTLIER : OUTLIER + 1])
    symmetric = Quantizer.activation("layer.input", bits=6, grid="signed-symmetric")
    grid_of(rows, symmetric)
    widen_grid(symmetric, errors, float(rows.min()), float(rows.max()))
    assert symmetric.offset.item() == 0 and symmetric.scale.item() == pytest.approx(4 / 31)
    fixed = Quantizer.activation("layer.input", bits=8, fixed=(0.5, 0.0))
    fixed.set_grid(0.5, 0.0)
    widen_grid(fixed, errors, -4.0, 4.0)
    assert fixed.scale.item() == 0.5
