"""calib.initialization.descent: gradients written out, against torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from calib.grid import dequantize, quantize
from calib.initialization.descent import LEARNING_RATE, STEPS, descend
from calib.initialization.objective import OffsetRule
from calib.statistics.observers import Points


def by_autograd(
    points: Points, start: tuple[float, float], low: int, high: int, rule: OffsetRule
) -> list[tuple[float, float]]:
    """The same with torch's autograd and its Adam."""
    x, weight = torch.from_numpy(points.values), torch.from_numpy(points.counts / points.counts.sum())
    change = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([change], lr=LEARNING_RATE)
    path = []
    for _ in range(STEPS):
        s, b = start[0] * change[0].exp(), start[1] + start[0] * change[1]
        if rule == "integer":
            b = s * (b / s + ((b / s).round() - b / s).detach())
        path.append((float(s.detach()), float(b.detach())))
        v = ((x - b) / s).clamp(low, high)
        q = v + (quantize(x, s, b, low, high) - v).detach()
        loss = ((dequantize(q, s, b) - x).square() * weight).sum() / start[0] ** 2
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return path


@pytest.mark.parametrize("rule", ["real", "integer"])
@pytest.mark.parametrize(("low", "high"), [(0, 15), (-8, 7), (0, 255), (-2, 1)])
def test_it_goes_where_autograd_goes(low: int, high: int, rule: OffsetRule) -> None:
    random = np.random.default_rng(high)
    x = np.sort(np.maximum(random.normal(size=300), -0.4))
    points = Points(x, random.integers(1, 9, size=x.size).astype(np.float64))
    span = (x[-1] - x[0]) / (high - low)
    start = 0.8 * span, x[0] - 0.9 * span * low
    found = descend(points, start, low, high, rule)
    assert len(found) == STEPS
    np.testing.assert_allclose(found, by_autograd(points, start, low, high, rule), rtol=1e-6, atol=1e-9)
