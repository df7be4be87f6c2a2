"""Adaptive pools as matrices, held against torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lsq_export.graph.pool_translations import averages


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize("new", range(1, 14))
def test_the_matrix_of_an_adaptive_pool_is_that_of_torch(size: int, new: int) -> None:
    unit = torch.eye(size, dtype=torch.float64)[:, None]
    expected = F.adaptive_avg_pool1d(unit, new)[:, 0].numpy()
    assert np.allclose(averages(size, new), expected, rtol=1e-7, atol=0)
