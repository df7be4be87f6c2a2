"""How much of a tensor differs from what has to come out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lsq_export.verification.agreement import decibels
from lsq_export.verification.layer_parity import float_rounding

from .integers import Scale


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Elements, how many differ, and by how much at most: in integers, or in values where `unit` is "values".

    sqnr_db: of the values, against those that have to come out; infinite where all are equal, None of integers.
    """

    elements: int
    differing: int
    largest: float
    unit: str = "integers"
    sqnr_db: float | None = None


def difference(found: np.ndarray, expected: np.ndarray) -> Difference:
    """Of integers [N, …]. A tensor of another shape differs everywhere; so does what is infinite or no number."""
    if found.shape != expected.shape:
        return Difference(elements=expected.size, differing=expected.size, largest=float("inf"))
    with np.errstate(invalid="ignore"):
        apart = np.abs(found.astype(np.float64) - expected.astype(np.float64))
    apart[np.isnan(apart)] = np.inf
    return Difference(
        elements=expected.size, differing=int(np.count_nonzero(apart)), largest=float(apart.max(initial=0.0))
    )


def output_difference(found: np.ndarray, expected: np.ndarray, scale: Scale | None) -> Difference:
    """Of an output [N, …]: its integers where it has a scale, values within float rounding where it has none."""
    if found.shape != expected.shape:
        return difference(found, expected)
    if expected.dtype.kind != "f":
        return difference(found, expected)
    noise = found.astype(np.float64) - expected.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        power = float(np.square(noise).sum())
    power = np.inf if np.isnan(power) else power
    sqnr = decibels(float(np.square(expected, dtype=np.float64).sum()), power)
    if scale is not None:
        one = difference(scale.integers(found), scale.integers(expected))
        return Difference(elements=one.elements, differing=one.differing, largest=one.largest, sqnr_db=sqnr)
    apart = np.abs(noise)
    apart[np.isnan(apart)] = np.inf
    return Difference(
        elements=expected.size,
        differing=int(np.count_nonzero(apart > float_rounding(expected))),
        largest=float(apart.max(initial=0.0)),
        unit="values",
        sqnr_db=sqnr,
    )


def joined(parts: Sequence[Difference]) -> Difference:
    """Of several outputs together: sums, and the worst of them."""
    worst = max(parts, key=lambda one: one.largest)
    return Difference(
        elements=sum(one.elements for one in parts),
        differing=sum(one.differing for one in parts),
        largest=worst.largest,
        unit=worst.unit,
        sqnr_db=min((one.sqnr_db for one in parts if one.sqnr_db is not None), default=None),
    )
