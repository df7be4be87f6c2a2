"""How the codes of one tensor differ from those that were expected, counted batch by batch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from .layer_parity import LayerParity
from .reasons import Reason

NOT_A_CODE = 256  # the difference that counts for every element of a tensor of another shape, and for larger ones


@dataclass
class Tally:
    """What was counted so far of one tensor; the fields are those of `LayerParity`."""

    elements: int = 0
    outside: int = 0
    histogram: Counter[int] = field(default_factory=Counter)
    reasons: Counter[Reason] = field(default_factory=Counter)

    def add(self, differences: np.ndarray) -> None:
        """differences: of every element that was compared, in codes, rounded here; NaN is no code."""
        self.elements += differences.size
        nonzero = np.nan_to_num(differences[differences != 0], nan=NOT_A_CODE).clip(-NOT_A_CODE, NOT_A_CODE)
        steps, counts = np.unique(np.rint(nonzero).astype(np.int64), return_counts=True)
        self.histogram.update({int(s): int(c) for s, c in zip(steps, counts, strict=True) if s})

    def add_equal(self, elements: int) -> None:
        """So many elements were compared, and none of them differs."""
        self.elements += elements

    def add_other_shape(self, elements: int) -> None:
        """There is nothing to compare so many elements with."""
        self.elements += elements
        self.histogram[NOT_A_CODE] += elements

    def result(self, name: str) -> LayerParity:
        """What was counted, for the tensor of that name."""
        return LayerParity(
            name=name,
            elements=self.elements,
            differing=sum(self.histogram.values()) / max(1, self.elements),
            largest=max(map(abs, self.histogram), default=0),
            histogram=dict(self.histogram),
            reasons={reason: count for reason, count in self.reasons.items() if count},
            outside=self.outside,
        )
