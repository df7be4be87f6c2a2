"""The promises by name, and what a verification says about each.

exact run        ONNX Runtime = integer reference: no element of a qoperator file differs, outside its float islands
exact rewrite    integer files = folded model: codes differ by ties of float rounding alone, accumulators not at all
measured fold    folded model against trained model: a number; broken only where the network is another one
intact files     the files are those that were exported, golden vectors included
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from calib.tables import decibel
from calib.words import counted
from lsq_export.qat.origins import TRAINED


class Name(str, Enum):
    """The names, everywhere."""

    EXACT_RUN = "exact run"
    EXACT_REWRITE = "exact rewrite"
    MEASURED_FOLD = "measured fold"
    INTACT_FILES = "intact files"

    def __str__(self) -> str:
        return self.value


STATEMENTS: Mapping[Name, str] = {
    Name.EXACT_RUN: "ONNX Runtime = integer reference",
    Name.EXACT_REWRITE: "integer files = folded model",
    Name.MEASURED_FOLD: "folded model against {origin} model",
    Name.INTACT_FILES: "the files are those that were exported",
}


@dataclass(frozen=True)
class Broken:
    """One line about one broken promise."""

    promise: Name
    line: str


@dataclass(frozen=True, kw_only=True)
class Promise:
    """One promise. holds: None where nothing is promised. detail: what was counted, in words."""

    name: Name
    statement: str
    holds: bool | None
    detail: str

    @property
    def verdict(self) -> str:
        """holds (0 of 12 integers of 3 images differ)."""
        word = {True: "holds", False: "BROKEN", None: "no promise"}[self.holds]
        return f"{word} ({self.detail})"


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What a format adds to the details: elements that differ, and of how many.

    exact: whether the format is held to the integer reference. islands: operators that stay float. largest, range: of
    the outputs, the largest difference from the integer reference, and its largest value.
    """

    name: str
    exact: bool
    mismatches: int
    elements: int
    codes_differing: int
    codes: int
    islands: int = 0
    largest: float = 0.0
    range: float = 0.0


def promises_of(
    counts: Sequence[Counts],
    broken: Sequence[Broken],
    *,
    images: int,
    sqnr_db: float,
    lost: str = "",
    origin: str = TRAINED,
) -> tuple[Promise, ...]:
    """All promises, in order; that of intact files only where it is broken.

    images: that were run. sqnr_db: of the folded model against the trained one, infinite if they are equal.
    lost: channels of outputs that the fold lost, in words. origin: of the network's grids (`qat/origins.py`).
    """
    lines: dict[Name, list[str]] = {name: [b.line for b in broken if b.promise == name] for name in Name}
    said = f"; {lost}" if lost else ""
    details = {
        Name.EXACT_RUN: _run(counts, images),
        Name.EXACT_REWRITE: _rewrite(counts),
        Name.MEASURED_FOLD: f"{decibel(sqnr_db)} > 0 dB, all codes on their grids; not an accuracy{said}",
    }
    found = []
    for name in Name:
        detail = details.get(name, "")
        if lines[name]:
            run = f"{detail}; " if name == Name.EXACT_RUN else ""
            others = len(lines[name]) - 1
            more = f"; and {counted(others, 'other failure')}" if others else ""
            detail = f"{run}{lines[name][0]}{more}"
        elif name == Name.INTACT_FILES:
            continue
        promised = name != Name.EXACT_RUN or any(c.exact for c in counts)
        holds = not lines[name] if promised else None
        found.append(Promise(name=name, statement=STATEMENTS[name].format(origin=origin), holds=holds, detail=detail))
    return tuple(found)


def _run(counts: Sequence[Counts], images: int) -> str:
    """Of the files that are held to it; of others, where there are none."""
    exact = [c for c in counts if c.exact]
    if not exact:
        differing, furthest = sum(c.mismatches for c in counts), max(counts, key=lambda c: c.largest)
        by = f", by {furthest.largest:.3g} at most{_of_range(furthest)}" if differing else ""
        return f"for qdq files; {differing:,} of {sum(c.elements for c in counts):,} outputs differ{by}"
    islands = sum(c.islands for c in exact)
    outside = f" outside {counted(islands, 'float operator')}" if islands else ""
    integers = f"{sum(c.mismatches for c in exact):,} of {sum(c.elements for c in exact):,}"
    return f"{integers} integers of {counted(images, 'image')} differ{outside}"


def _of_range(counts: Counts) -> str:
    return f" ({counts.largest / counts.range:.2%} of the largest output)" if counts.range else ""


def _rewrite(counts: Sequence[Counts]) -> str:
    same = len({c.codes for c in counts}) == 1
    parts = [f"{c.name} {c.codes_differing:,}" + ("" if same else f" of {c.codes:,}") for c in counts]
    codes = f" of {counts[0].codes:,}" if same else ""
    ties = ", by rounding ties" if any(c.codes_differing for c in counts) else ""
    return f"{', '.join(parts)}{codes} codes differ{ties}"
