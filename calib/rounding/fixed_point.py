"""Sums of codes in fixed-point arithmetic, as ONNX Runtime's ARM64 kernel of QLinearAdd computes them.

On other processors that kernel works in float32. In fixed point, with r_a = float32(S_a / S_y), r_b likewise, and
2^e <= max(r_a, r_b) < 2^(e+1):

    m = round(r · 2^(21 - e))
    y = round(((a - Z_a) · m_a + (b - Z_b) · m_b) / 2^(21 - e)) + Z_y

The larger m has 22 bits; ties of y go away from zero, and y saturates. An m is off by up to half a unit, and a sum
therefore by up to (|a - Z_a| + |b - Z_b|) · 2^(e - 22) steps: 1.2e-4 at e = 0, more than float32 is off by. Measured
(onnxruntime 1.32 under qemu-aarch64): these are its codes for all 65,536 pairs on each of 60 grids. `make test-isa`
repeats the comparison.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MULTIPLIER_BITS = 22
LOWEST_RATIO, HIGHEST_RATIO = 2.0**-14, 2.0**8  # beyond these the kernel works in float32
LARGEST_SHIFT = 31


@dataclass(frozen=True)
class Addend:
    """One operand of a sum, with the values (c - Z) · scale. steps: every c - Z that may occur."""

    steps: NDArray[np.int64]
    scale: float

    @property
    def values(self) -> NDArray[np.float64]:
        return np.asarray(self.steps * self.scale, np.float64)


def fixed_point_sums(a: Addend, b: Addend, scale: float) -> NDArray[np.int64] | None:
    """y - Z_y before saturation for every pair, [len(a.steps), len(b.steps)].

    None where the kernel works in float32 instead.
    """
    ratios = np.array([a.scale, b.scale], np.float32) / np.float32(scale)
    shift = MULTIPLIER_BITS - int(np.frexp(ratios.max())[1])
    if ratios.min() < LOWEST_RATIO or ratios.max() >= HIGHEST_RATIO or shift > LARGEST_SHIFT:
        return None
    m_a, m_b = (int(m) for m in np.rint(ratios.astype(np.float64) * 2.0**shift))
    if max(m_a, m_b) >= 2**MULTIPLIER_BITS:
        return None
    total = np.add.outer(a.steps * m_a, b.steps * m_b)
    return np.asarray(np.sign(total) * ((np.abs(total) + 2 ** (shift - 1)) >> shift))
