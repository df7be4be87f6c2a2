"""Streaming statistics of a tensor: one pass, bounded memory, any number of batches."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from .errors import QuantizationError

BINS = 8192  # even: two neighbors merge when the range grows
CHUNK = 1 << 20  # elements that are converted to float64 at a time


@dataclass(frozen=True)
class Points:
    """A distribution as weighted points: values ascending, counts > 0; both float64, shape [P]."""

    values: np.ndarray
    counts: np.ndarray


class Observer:
    """min, max, mean |x|, mean, std and a histogram of everything that `update` saw.

    The histogram has BINS equal bins and covers the range of the data: when the range grows, pairs of bins merge and the width doubles.
    A bin keeps the count and the sum of its values, so a spike (the zeros of a ReLU) sits at its own mean.
    """

    def __init__(self, name: str = "tensor") -> None:
        self.name = name
        self.count = 0
        self.min, self.max = math.inf, -math.inf
        self._sum = self._abs_sum = self._deviation = 0.0  # _deviation: Σ (x - mean)²
        self._low = self._width = 0.0  # left edge of the first bin, width of a bin
        self._counts = torch.zeros(BINS, dtype=torch.float64)
        self._sums = torch.zeros(BINS, dtype=torch.float64)

    @property
    def mean(self) -> float:
        return self._sum / self.count

    @property
    def mean_abs(self) -> float:
        return self._abs_sum / self.count

    @property
    def std(self) -> float:
        """Of the population."""
        return math.sqrt(self._deviation / self.count)

    @property
    def max_abs(self) -> float:
        return max(abs(self.min), abs(self.max))

    @torch.no_grad()
    def update(self, x: torch.Tensor) -> None:
        """Add every element of x (any shape, a float type). Not-finite values are an error."""
        flat = x.detach().flatten()
        low, high = self._range(flat)
        if low > high:
            return
        if not (math.isfinite(low) and math.isfinite(high)):
            raise QuantizationError(f"{self.name}: values are not finite (NaN or infinity); check the model and the calibration batches")
        self._cover(low, high, flat.device)
        self.min, self.max = min(self.min, low), max(self.max, high)
        if flat.numel():
            for chunk in flat.split(CHUNK):
                self._add(chunk.double())

    def merged(self) -> Observer:
        """The statistics of everything that was seen: by this process, or by all that share the data (`SharedObserver`)."""
        return self

    def _range(self, x: torch.Tensor) -> tuple[float, float]:
        """Smallest and largest value of x [n]; (inf, -inf) if there is none."""
        if x.numel() == 0:
            return math.inf, -math.inf
        low, high = torch.aminmax(x)
        return float(low), float(high)

    def _add(self, x: torch.Tensor) -> None:  # [n] float64
        n = x.numel()
        total = float(x.sum())
        deviation = float((x - total / n).square().sum())
        if self.count:  # Chan's update of Σ (x - mean)²
            deviation += (total / n - self.mean) ** 2 * self.count * n / (self.count + n)
        self.count, self._sum, self._deviation = self.count + n, self._sum + total, self._deviation + deviation
        self._abs_sum += float(x.abs().sum())
        index = ((x - self._low) / self._width).long().clamp_(0, BINS - 1)
        self._counts += torch.bincount(index, minlength=BINS)
        self._sums += torch.bincount(index, weights=x, minlength=BINS)

    def _cover(self, low: float, high: float, device: torch.device) -> None:
        """Make the bins reach from low to high."""
        self._counts, self._sums = self._counts.to(device), self._sums.to(device)
        if not self._width:
            smallest = max(abs(low), abs(high), 1e-30) * 1e-9  # a constant needs a width as well
            self._low, self._width = low, max(high - low, smallest) / BINS
        while low < self._low or high > self._low + BINS * self._width:
            down = low < self._low
            self._counts, self._sums = _merge(self._counts, down), _merge(self._sums, down)
            if down:
                self._low -= BINS * self._width
            self._width *= 2

    def points(self) -> Points:
        """The bins that hold something: mean of the bin, count."""
        used = self._counts > 0
        counts, sums = self._counts[used], self._sums[used]
        return Points((sums / counts).cpu().numpy(), counts.cpu().numpy())


def _merge(bins: torch.Tensor, down: bool) -> torch.Tensor:
    """Pairs of bins become one; the empty half is below (`down`) or above."""
    merged = bins.view(-1, 2).sum(1)  # [BINS / 2]
    empty = torch.zeros_like(merged)
    return torch.cat((empty, merged) if down else (merged, empty))
