"""Whether sums of two products can leave int16, as kernels of processors without VNNI add them.

They multiply UINT8 codes a with INT8 weights w, and add two neighboring products in a saturating int16 (vpmaddubsw).
Which products are neighbors depends on the kernel. With 0 <= a <= A, and for any two weights of a row,

    A·(min(w₁, 0) + min(w₂, 0))  <=  a₁·w₁ + a₂·w₂  <=  A·(max(w₁, 0) + max(w₂, 0))

and both bounds are reached. So no sum saturates, whatever the order, exactly if the bounds of the two largest and of
the two smallest weights of each row hold. For A = 255 that is all weights within 64 (E7), and for A = 15 any weights.
"""

from __future__ import annotations

import numpy as np

LOWEST, HIGHEST = -(2**15), 2**15 - 1


def saturating(weights: np.ndarray, largest: int) -> int | None:
    """The first row that can saturate; None if none can. weights: [rows, products of a sum]. largest: code, A."""
    if weights.size == 0:
        return None
    ordered = np.sort(weights, axis=1)
    high = np.maximum(ordered[:, -2:].astype(np.int64), 0).sum(axis=1) * largest
    low = np.minimum(ordered[:, :2].astype(np.int64), 0).sum(axis=1) * largest
    found = np.flatnonzero((high > HIGHEST) | (low < LOWEST))
    return int(found[0]) if found.size else None
