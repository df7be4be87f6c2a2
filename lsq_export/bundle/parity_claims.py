"""What parity.json says, held against itself: its verdicts are those of its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from calib.words import counted
from lsq_export.verification.format_parity import EXACT_FORMATS


def contradictions(parity: Mapping[str, Any]) -> Iterator[str]:
    """One line for each verdict that the rest contradicts. parity: as its schema has it."""
    ok, failures = parity["ok"], parity["failures"]
    if ok == bool(failures):
        yield f"ok is {ok}, and failures has {counted(len(failures), 'entry', 'entries')}"
    promises = parity.get("promises", [])  # older versions wrote none
    broken = [promise["name"] for promise in promises if promise["holds"] is False]
    if promises and ok == bool(broken):
        yield f"ok is {ok}, and of the promises {', '.join(broken) or 'none'} is broken"
    for name, found in parity["formats"].items():
        good, wrong = found.get("ok", ok), _wrong(name, found)
        if good and wrong:
            yield f"formats.{name}.ok is {good}, and its {wrong} is not empty"
        if ok and not good:
            yield f"ok is {ok}, and formats.{name}.ok is {good}"


def _wrong(name: str, found: Mapping[str, Any]) -> str | None:
    """The first field that breaks a promise."""
    fields = ("altered", "accumulator_mismatch", "output_mismatch")
    exact = ("reference_mismatch",) if name in EXACT_FORMATS else ()
    return next((field for field in (*exact, *fields) if found.get(field)), None)
