"""The tables of `lsq-export drift`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .output import print_table, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from calib.drift import Drift
    from calib.drift.range_use import RangeUse

    from .drift_reinit import Renewed

COLUMNS = (
    *("quantizer", ">clipped below", ">(was)", ">clipped above", ">(was)"),
    *(">codes", ">(was)", ">SQNR", ">(was)", "left its range"),
)
REINIT_COLUMNS = ("re-initialized", ">clipped before", ">after", ">SQNR before", ">after")


def _sqnr(use: RangeUse) -> str:
    if not use.relative_error:
        return "–" if use.relative_error is None else "inf dB"
    return f"{-10 * math.log10(use.relative_error):.1f} dB"


def print_use(now: Sequence[Drift], title: str) -> None:
    """Each quantizer, now and in calibration."""
    rows = []
    for drift in now:
        use, was = drift.now, drift.before
        shares = (f"{use.below:.2%}", f"{was.below:.2%}", f"{use.above:.2%}", f"{was.above:.2%}")
        codes = (f"{use.codes} of {2**use.bits}", str(was.codes))
        rows.append((drift.name, *shares, *codes, _sqnr(use), _sqnr(was), "; ".join(drift.reasons)))
    print_table(title, COLUMNS, rows)


def print_change(before: Sequence[Drift], renewed: Renewed) -> None:
    """The re-initialized quantizers before and after, on the same images."""
    pairs = [(old.now, new.now) for old, new in zip(before, renewed.after, strict=True) if new.name in renewed.names]
    rows = [
        (was.name, *(f"{use.below + use.above:.2%}" for use in (was, now)), *(_sqnr(use) for use in (was, now)))
        for was, now in pairs
    ]
    print_table(f"The same images on new grids, {renewed.rounds} rounds", REINIT_COLUMNS, rows)
    change = f"{renewed.accuracy_before:.2%} before, {renewed.accuracy_after:.2%} after"
    say(f"top-1 accuracy on them: {change}, {renewed.accuracy_float:.2%} in float")
