"""The fused multiply-add of float32 rounds once."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from lsq_export.integer.numeric import fma32
from support.integer_reference import F


def test_fma_rounds_once() -> None:
    """Against exact fractions, with sums that sit just beside the middle of two float32 and of two float64."""
    rng = np.random.default_rng(20)
    a, b, c = (rng.uniform(-1, 1, 3000).astype(F) for _ in range(3))
    c[:1000] *= F(2.0**-26)  # the product decides, c breaks ties
    a[1000:1500], b[1000:1500], c[1000:1500] = (
        F(1 + 2**-12),
        F(1 - 2**-12 + 2**-23),
        rng.choice([-1, 1], 500).astype(F) * F(2.0**-60),
    )
    # tie + crumb
    a[1500:1600], b[1500:1600], c[1500:1600] = (
        F(1 + 2**-12),
        F(1 + 2**-12),
        rng.choice([-1, 1], 100).astype(F) * F(2.0**-60),
    )
    for x, y, z, result in zip(a, b, c, fma32(a, b, c), strict=True):
        exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
        near = [result, np.nextafter(result, F(np.inf)), np.nextafter(result, F(-np.inf))]
        distance = [abs(Fraction(float(v)) - exact) for v in near]
        assert distance[0] == min(distance)
        # a tie goes to even
        assert distance.count(min(distance)) == 1 or not int(np.asarray(result).view(np.int32)) & 1
