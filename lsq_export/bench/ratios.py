"""How many times faster one model is than another, and between which bounds that is known.

The models took turns in blocks. Each block of one has its partner among those of the other, seconds apart, and their
medians give one ratio. The interval holds the median of these ratios with a probability of 95 % or more: it goes from
the k-th smallest to the k-th largest (the sign test's interval, which assumes nothing about how times are distributed).
Fewer than six blocks are too few for that; the interval is then from the smallest to the largest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
WIDE = 1.5  # high / low: beyond it the value in the middle says nothing


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """value: the median of one model / that of the other. low, high: of the interval, which holds the value."""

    value: float
    low: float
    high: float

    @property
    def wide(self) -> bool:
        """Whether the interval leaves the value open."""
        return self.high > WIDE * self.low

    @property
    def text(self) -> str:
        """Such as: 1.42 (1.31 … 1.50), or where the interval is wide: ? (0.80 … 2.10)."""
        return f"{'?' if self.wide else f'{self.value:.2f}'} ({self.low:.2f} … {self.high:.2f})"


def ratio_of(value: float, others: Sequence[float], ours: Sequence[float]) -> Ratio:
    """The ratio with its interval. value: of the medians of all runs. others, ours: medians of the blocks, in turn."""
    ratios = sorted(other / own for other, own in zip(others, ours, strict=True))
    left_out = _left_out(len(ratios))
    inner = ratios[left_out : len(ratios) - left_out] or [value]
    return Ratio(value=value, low=min(value, inner[0]), high=max(value, inner[-1]))


def _left_out(count: int) -> int:
    """How many of `count` ratios the interval leaves out at each end."""
    outside, left_out = 0.0, 0
    for fewer in range(count // 2):
        outside += 2 * math.comb(count, fewer) / 2**count
        if outside > 1 - CONFIDENCE:
            break
        left_out = fewer
    return left_out
