"""Some samples of any number, the same ones for any order and any batches: those whose content hashes lowest."""

from __future__ import annotations

import hashlib
from bisect import insort
from typing import Any

from calib.samples import Input, each, joined, tensors_of


class KeptSamples:
    """Looks at any number of samples, and keeps at most `limit` of them; equal ones count once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._digests: list[bytes] = []  # sorted
        self._samples: dict[bytes, Input] = {}

    def look(self, sample: Input) -> None:
        """Take notice of a sample, [1, …]."""
        digest = _digest(sample)
        full = len(self._digests) == self._limit
        if not len(sample) or digest in self._samples or (full and digest > self._digests[-1]):
            return
        if full:
            del self._samples[self._digests.pop()]
        insort(self._digests, digest)
        self._samples[digest] = _own(sample)

    def batches(self, size: int) -> list[Any]:
        """In batches of `size`, or of all where there are fewer; the last one is left out where it is not full."""
        samples = [self._samples[digest] for digest in self._digests]
        size = min(size, max(1, len(samples)))
        return [joined(samples[first : first + size]) for first in range(0, len(samples) - size + 1, size)]


def _digest(sample: Input) -> bytes:
    found = hashlib.sha256()
    for tensor in tensors_of(sample):
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.digest()


def _own(sample: Any) -> Any:
    """A copy: a part of a batch would keep the whole batch in memory."""
    return each(sample, lambda tensor: tensor.detach().cpu().clone())
