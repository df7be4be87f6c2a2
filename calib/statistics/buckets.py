"""Counts of float32 numbers in buckets: those that share sign, exponent and the first MANTISSA bits.

A bucket is the first 9 + MANTISSA bits of a number, as an integer. Counts add up alike in any order. The buckets of one
sign and exponent are a page; one that no number was in takes no memory.
"""

from __future__ import annotations

import numpy as np

MANTISSA = 12
SHIFT = 23 - MANTISSA  # bits of a float32 that a bucket leaves open
PAGE, PAGES = 1 << MANTISSA, 1 << 9  # buckets of a page; pages of all signs and exponents
NEGATIVE = 1 << (8 + MANTISSA)  # the first bucket of those with the sign
WAITING = 1 << 19  # numbers that are counted at once


class Buckets:
    """How many numbers were in each bucket."""

    def __init__(self) -> None:
        self._waiting: list[np.ndarray] = []  # buckets of numbers that are not counted yet, uint32
        self._number = 0  # of them
        self._pages = np.empty(0, np.int64)  # in the order in which they came, as their counts lie
        self._shift = np.zeros(PAGES, np.int64)  # of each page that came, from a bucket to its place among the counts
        self._counts = np.zeros(0, np.int64)

    def add(self, x: np.ndarray) -> None:
        """x: float32, [n], all finite."""
        for first in range(0, len(x), WAITING):
            part = x[first : first + WAITING]
            self._waiting.append(part.view(np.uint32) >> np.uint32(SHIFT))
            self._number += len(part)
            if self._number >= WAITING:
                self._count()

    def counted(self) -> tuple[np.ndarray, np.ndarray]:
        """(keys, counts) of all that were used, int64: the keys ascend as the numbers do; 0 is that of both zeros."""
        self._count()
        used = np.flatnonzero(self._counts)
        buckets = self._pages[used // PAGE] * PAGE + used % PAGE
        negative = buckets >= NEGATIVE
        keys, places = np.unique(np.where(negative, NEGATIVE - buckets, buckets), return_inverse=True)
        return keys, np.bincount(places, weights=self._counts[used]).astype(np.int64)

    def _count(self) -> None:
        """Count those that wait: a pass over all counts costs as much as one over WAITING numbers."""
        if not self._waiting:
            return
        buckets = np.concatenate(self._waiting)
        self._waiting.clear()
        self._number = 0
        pages = buckets >> np.uint32(MANTISSA)
        came = np.bincount(pages, minlength=PAGES) > 0
        came[self._pages] = False
        self._make_room(np.flatnonzero(came))
        counts = np.bincount(buckets + self._shift[pages], minlength=len(self._counts))
        self._counts += counts

    def _make_room(self, pages: np.ndarray) -> None:
        """Counts for pages that are new."""
        self._shift[pages] = (len(self._pages) + np.arange(len(pages)) - pages) * PAGE
        self._pages = np.concatenate((self._pages, pages))
        self._counts = np.concatenate((self._counts, np.zeros(len(pages) * PAGE, np.int64)))


def middles(keys: np.ndarray) -> np.ndarray:
    """float64 numbers in the middle of the buckets; 0 for that of zero."""
    magnitude = (np.abs(keys) << SHIFT) + (1 << (SHIFT - 1))
    values = magnitude.astype(np.int32).view(np.float32).astype(np.float64)
    return np.where(keys == 0, 0.0, np.copysign(values, keys))
