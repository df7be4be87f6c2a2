"""How a tensor uses a grid, counted by plain numpy on all samples at once."""

from __future__ import annotations

import numpy as np
import pytest

from calib.drift.range_use import RangeUse


def oracle(x: np.ndarray, scale: float, offset: float, qmin: int, qmax: int) -> dict[str, float]:
    """RangeUse of all samples at once. Codes in float32, as the network computes them; the rest in float64."""
    wide = x.astype(np.float64)
    free = np.rint((x.astype(np.float32) - np.float32(offset)) / np.float32(scale))
    codes = np.clip(free, qmin, qmax)
    values = (codes.astype(np.float32) * np.float32(scale) + np.float32(offset)).astype(np.float64)
    mse = ((values - wide) ** 2).mean()
    ordered, tail = np.sort(codes.ravel()), int(1e-3 * x.size)  # so many elements on either side do not count
    found = {"elements": x.size, "below": (free < qmin).mean(), "above": (free > qmax).mean()}
    found |= {
        "codes": ordered[-1 - tail] - ordered[tail] + 1,
        "min": wide.min(),
        "max": wide.max(),
        "mean": wide.mean(),
        "std": wide.std(),
    }
    for side, clipped in (("below", free < qmin), ("above", free > qmax)):
        found[f"mse_{side}"] = ((values - wide)[clipped] ** 2).sum() / x.size
    return {**found, "mse": mse, "noise": mse / (float(np.float32(scale)) ** 2 / 12)}


def agree(use: RangeUse, expected: dict[str, float]) -> None:
    """Counts exactly; float64 sums but for their order."""
    for key, value in expected.items():
        exact = key in ("elements", "below", "above", "codes", "min", "max")
        assert getattr(use, key) == (value if exact else pytest.approx(value, rel=1e-9, abs=1e-12)), key
