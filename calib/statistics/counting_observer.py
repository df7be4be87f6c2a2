"""Statistics that do not depend on the order of the data, nor on how they are divided into batches.

Every value is counted in a bucket of all float32 numbers that share sign, exponent and the first MANTISSA bits, which
are integers and add up alike in any order. A bucket stands for its middle: at most 2^-(MANTISSA + 1) of a value away.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from .observers import POINTS, Observer, Points, finite_range, merged

MANTISSA = 12
SHIFT = 23 - MANTISSA  # bits of a float32 that a bucket leaves open
WAITING = 1 << 19  # values that an observer counts at once


class CountingObserver(Observer):
    """As `Observer`, whose points are those of the buckets; at most `limit` of them are given out."""

    def __init__(self, name: str = "tensor", limit: int = POINTS) -> None:
        super().__init__(name, limit)
        self._keys, self._counts = np.empty(0, np.int64), np.empty(0, np.int64)
        self._waiting: list[np.ndarray] = []  # keys that are not counted yet, int32

    @torch.no_grad()
    def update(self, x: torch.Tensor) -> None:
        """Add every element of x (any shape, a float type). Not-finite values are an error."""
        if x.numel() == 0:
            return
        flat = x.detach().flatten().float().cpu()
        low, high = finite_range(self.name, flat)
        self.min, self.max = min(self.min, low), max(self.max, high)
        self.count += flat.numel()
        self._waiting.append(_keys(flat.numpy()))
        if sum(map(len, self._waiting)) >= WAITING:
            self._count()

    def _count(self) -> None:
        """Count the keys that wait: a pass over all buckets costs as much as one over WAITING keys."""
        if not self._waiting:
            return
        keys = np.concatenate(self._waiting)
        self._waiting.clear()
        first = int(keys.min())
        counts = np.bincount(keys - first)
        used = np.flatnonzero(counts)
        together, places = np.unique(np.concatenate((self._keys, used + first)), return_inverse=True)
        both = np.concatenate((self._counts, counts[used]))
        self._keys, self._counts = together, np.bincount(places, weights=both).astype(np.int64)

    def points(self) -> Points:
        """At most `limit` points, those of neighboring buckets merged where that costs least."""
        return merged(self._buckets(), self.limit)[0]

    def _buckets(self) -> Points:
        self._count()
        return Points(_middles(self._keys), self._counts.astype(np.float64))

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


def _keys(x: np.ndarray) -> np.ndarray:
    """The bucket of each float32: integers in the order of the numbers; 0 is that of zero."""
    bits = x.view(np.int32)
    magnitude = (bits & 0x7FFFFFFF) >> SHIFT
    return np.where(bits < 0, -magnitude, magnitude)


def _middles(keys: np.ndarray) -> np.ndarray:
    """float64 numbers in the middle of the buckets; 0 for that of zero."""
    magnitude = (np.abs(keys) << SHIFT) + (1 << (SHIFT - 1))
    values = magnitude.astype(np.int32).view(np.float32).astype(np.float64)
    return np.where(keys == 0, 0.0, np.copysign(values, keys))
