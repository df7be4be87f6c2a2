"""Some rows of a tensor that arrives in batches, the same ones in any order: those whose content hashes lowest."""

from __future__ import annotations

import numpy as np

ROWS, VALUES = 2048, 1 << 22  # at most so many rows, and numbers in them
MIXED = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))  # multipliers of splitmix64
HALF = np.uint64(31)


class KeptRows:
    """Rows [R, C] of everything that `look` saw, float32, and the range of each channel in all of it.

    low, high: [C], float32; empty before the first batch.
    """

    def __init__(self) -> None:
        self.low = self.high = np.empty(0, np.float32)
        self._keys = np.empty(0, np.uint64)
        self._rows = np.empty((0, 0), np.float32)

    def look(self, x: np.ndarray) -> None:
        """Take notice of x [..., C], which may have no rows."""
        rows = np.ascontiguousarray(x, np.float32).reshape(-1, x.shape[-1])
        if not len(rows):
            return
        low, high = rows.min(0), rows.max(0)
        known = len(self.low) > 0
        self.low, self.high = (np.minimum(self.low, low), np.maximum(self.high, high)) if known else (low, high)
        limit, keys = max(1, min(ROWS, VALUES // rows.shape[1])), _keys(rows)
        if len(self._keys) == limit:
            lower = keys < self._keys[-1]
            if not lower.any():
                return
            keys, rows = keys[lower], rows[lower]
        keys, rows = np.concatenate((self._keys, keys)), np.concatenate((self._rows, rows)) if known else rows
        _, first = np.unique(keys, return_index=True)  # ascending; equal rows count once
        self._keys, self._rows = keys[first[:limit]], rows[first[:limit]]

    @property
    def rows(self) -> np.ndarray:
        """[R, C], in the order of their hashes."""
        return self._rows


def _keys(rows: np.ndarray) -> np.ndarray:
    """A hash of each row, uint64."""
    factors = np.random.default_rng(0).integers(1 << 63, size=rows.shape[1], dtype=np.uint64) | np.uint64(1)
    keys: np.ndarray = (rows.view(np.uint32) * factors).sum(1, dtype=np.uint64)
    for factor in MIXED:
        keys = (keys ^ (keys >> HALF)) * factor
    return np.asarray(keys ^ (keys >> HALF))
