"""constant_grids: a constant whose numbers lie on steps is not rounded."""

from __future__ import annotations

import numpy as np
import pytest

from lsq_export.rewrite.folding.constant_grids import _step_of


@pytest.mark.parametrize("codes", [np.arange(-8, 8), np.array([-128, 3, 127]), np.array([0, 5, 10, 35])])
def test_multiples_of_a_step_stay(codes: np.ndarray) -> None:
    numbers = (codes * np.float64(0.0371)).astype(np.float32)
    step = _step_of(numbers)
    assert step > 0
    found = np.rint(numbers / step) * np.float32(step)
    assert np.abs(found - numbers).max() <= 1e-6 * np.abs(numbers).max()
    assert np.ptp(np.append(np.rint(numbers / step), 0)) <= 255


def test_other_numbers_have_none() -> None:
    rng = np.random.default_rng(1)
    assert _step_of(rng.standard_normal((6, 4)).astype(np.float32)) == 0
    assert _step_of(np.array([0.0, 1.0, 256.0], np.float32)) == 0  # more than 256 codes
    assert _step_of(np.zeros(3, np.float32)) == 0
