"""Statistics that do not depend on the order of the data, nor on how they are divided into batches.

Every value is counted in its bucket, see `calib.statistics.buckets`. A bucket stands for its middle: at most
2^-(MANTISSA + 1) of a value away.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from .buckets import Buckets, middles
from .observers import POINTS, Observer, Points, finite_range, merged


class CountingObserver(Observer):
    """As `Observer`, whose points are those of the buckets; at most `limit` of them are given out."""

    def __init__(self, name: str = "tensor", limit: int = POINTS) -> None:
        super().__init__(name, limit)
        self._seen = Buckets()

    @torch.no_grad()
    def update(self, x: torch.Tensor) -> None:
        """Add every element of x (any shape, a float type). Not-finite values are an error."""
        if x.numel() == 0:
            return
        flat = x.detach().flatten().float().cpu()
        low, high = finite_range(self.name, flat)
        self.min, self.max = min(self.min, low), max(self.max, high)
        self.count += flat.numel()
        self._seen.add(flat.numpy())

    def points(self) -> Points:
        """At most `limit` points, those of neighboring buckets merged where that costs least."""
        return merged(self._buckets(), self.limit)[0]

    def _buckets(self) -> Points:
        keys, counts = self._seen.counted()
        return Points(middles(keys), counts.astype(np.float64))

    @property
    def mean(self) -> float:
        """Of the buckets."""
        buckets = self._buckets()
        return math.fsum(buckets.values * buckets.counts) / self.count

    @property
    def mean_abs(self) -> float:
        """Of the buckets."""
        buckets = self._buckets()
        return math.fsum(np.abs(buckets.values) * buckets.counts) / self.count

    @property
    def std(self) -> float:
        """Of the buckets."""
        buckets, mean = self._buckets(), self.mean
        return math.sqrt(math.fsum(np.square(buckets.values - mean) * buckets.counts) / self.count)
