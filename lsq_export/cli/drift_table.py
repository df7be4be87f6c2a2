"""The tables of `lsq-export drift`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from .output import print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from calib.drift import Drift
    from calib.drift.range_use import RangeUse

    from .cmd_drift import Renewed

COLUMNS = (
    "quantizer",
    ">clipped below",
    ">(was)",
    ">clipped above",
    ">(was)",
    ">codes",
    ">(was)",
    ">SQNR",
    ">(was)",
    "left its range",
)
REINIT_COLUMNS = ("re-initialized", ">clipped before", ">after", ">SQNR before", ">after")


def _sqnr(use: RangeUse) -> str:
    if not use.relative_error:
        return "–" if use.relative_error is None else "inf dB"
    return f"{-10 * math.log10(use.relative_error):.1f} dB"


def print_use(found: Sequence[Drift], title: str) -> None:
    """Each quantizer, now and in calibration."""
    rows = []
    for d in found:
        shares = (f"{d.now.below:.2%}", f"{d.before.below:.2%}", f"{d.now.above:.2%}", f"{d.before.above:.2%}")
        codes = (f"{d.now.codes} of {2**d.now.bits}", str(d.before.codes))
        rows.append((d.name, *shares, *codes, _sqnr(d.now), _sqnr(d.before), "; ".join(d.reasons)))
    print_table(title, COLUMNS, rows)


def print_change(before: Sequence[Drift], renewed: Renewed) -> None:
    """Before and after, on the same images."""
    pairs = [(old.now, new.now) for old, new in zip(before, renewed.after, strict=True) if new.name in renewed.names]
    rows = [
        (was.name, *(f"{use.below + use.above:.2%}" for use in (was, now)), *(_sqnr(use) for use in (was, now)))
        for was, now in pairs
    ]
    print_table(f"The same images on new grids, {renewed.rounds} rounds", REINIT_COLUMNS, rows)
    shares = f"{renewed.accuracy_before:.2%} before, {renewed.accuracy_after:.2%} after, {renewed.accuracy_float:.2%} in float"
    click.echo(f"top-1 accuracy on them: {shares}")
