"""What `verify` finds out about one tensor of codes, as data, and how far it may differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from calib.tables import Table, Tabular

from .distribution import Distribution
from .reasons import Reason

TIES = 1e-5  # promise 2: share of a layer's codes that may differ from the folded model by ties of float rounding
QDQ_TIES = 1e-3  # a qdq file runs in float32, whose sums round: more ties, each one code
ISLAND_TIES = QDQ_TIES  # so does a float island of a qoperator file; only the codes that it makes itself
FLOAT_SUMS = 1e-4  # of the largest output: what the sums of a float32 kernel may miss


def float_rounding(expected: np.ndarray) -> float:
    """What a float output of a float32 kernel may miss."""
    return float(FLOAT_SUMS * np.abs(expected).max(initial=0.0))


@dataclass(frozen=True, kw_only=True)
class LayerParity:
    """One tensor of codes against the folded model, which computes in float64 from the same inputs.

    name: the tensor. elements: how many were compared. differing: share of the codes that differ. largest: biggest
    difference, in codes. histogram: {difference in codes: elements}, without 0. reasons: {reason: elements that differ
    for it}. outside: elements whose codes are none of the learned grid's. data: what a learned quantizer reads.
    """

    name: str
    elements: int
    differing: float
    largest: int
    histogram: dict[int, int]
    reasons: dict[Reason, int] = field(default_factory=dict)
    outside: int = 0
    data: Distribution | None = None

    def within(self, ties: float) -> bool:
        """Whether at most that share (or one element) differs, and by one code at the most."""
        return self.largest <= 1 and sum(self.histogram.values()) <= max(1.0, ties * self.elements)


class Layers(Tabular, tuple[LayerParity, ...]):
    """Tensors of codes in the order of the network, shown as a table of those that differ."""

    @property
    def table(self) -> Table:
        """One row for each tensor with a code that differs."""
        differing = [layer for layer in self if layer.histogram]
        rows = [
            (
                layer.name,
                layer.elements,
                f"{layer.differing:.1e}",
                layer.largest,
                ", ".join(f"{reason} {count}" for reason, count in layer.reasons.items()),
            )
            for layer in differing
        ]
        columns = ("tensor", ">elements", ">differing", ">largest, in codes", "reasons")
        return Table(f"{len(differing) or 'none'} of {len(self)} tensors differ", columns, rows)


@dataclass(frozen=True, kw_only=True)
class IslandParity:
    """The codes that float operators make, in ONNX Runtime against float64 on the same inputs; over all sessions.

    codes: the tensor. operators: "name (operator)" of those that make it. differing: elements that differ. largest: by
    how many codes.
    """

    codes: str
    operators: tuple[str, ...]
    elements: int
    differing: int
    largest: int

    @property
    def ok(self) -> bool:
        """Whether the codes differ by ties alone."""
        return self.largest <= 1 and self.differing <= max(1.0, ISLAND_TIES * self.elements)


def first_differing(layers: Sequence[LayerParity]) -> LayerParity | None:
    """The first layer with a code that differs. layers: in the order of the graph."""
    return next((layer for layer in layers if layer.histogram), None)
