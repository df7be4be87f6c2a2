"""How the codes of one tensor differ from those that were expected, counted batch by batch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from .parity import LayerParity

NOT_A_CODE = 256  # the difference that counts for every element of a tensor of another shape, and for larger ones


@dataclass
class Tally:
    """elements: compared so far. outside: codes that are none of the grid's. The counters are those of `LayerParity`."""

    elements: int = 0
    outside: int = 0
    histogram: Counter[int] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, differences: np.ndarray, elements: int | None = None) -> None:
        """differences: in codes, rounded here; 0 does not count. elements: how many were compared, if there are others that did not differ."""
        self.elements += differences.size if elements is None else elements
        steps, counts = np.unique(np.rint(differences).clip(-NOT_A_CODE, NOT_A_CODE).astype(np.int64), return_counts=True)
        self.histogram.update({int(s): int(c) for s, c in zip(steps, counts, strict=True) if s})

    def add_other_shape(self, elements: int) -> None:
        """There is nothing to compare so many elements with."""
        self.elements += elements
        self.histogram[NOT_A_CODE] += elements

    def result(self, name: str) -> LayerParity:
        histogram, reasons = dict(self.histogram), {reason: count for reason, count in self.reasons.items() if count}
        largest = max(map(abs, histogram), default=0)
        return LayerParity(name, self.elements, sum(histogram.values()) / max(1, self.elements), largest, histogram, reasons, self.outside)
