"""What a replay found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from calib.tables import Table, Tabular, decibel

from .difference import Difference
from .inside import Inside
from .probing import First

SAME, DIFFERS, MISSING, REFUSED = "same", "differs", "missing", "refused"


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """One file in one runtime.

    verdict: "same" (all integers that were compared are those of the reference), "differs", "refused", "crashed", "out
    of time", or "missing": the runtime is not installed. difference: of all outputs, where it ran; first: the first
    tensor inside that differs, where it was found; inside: all tensors, where that was asked for. why: what the runtime
    says, or what installs it. instead: what to do.
    """

    runtime: str
    version: str
    file: str
    target: str
    verdict: str
    images: int
    difference: Difference | None = None
    first: First | None = None
    inside: Inside | None = None
    why: str = ""
    instead: str = ""
    seconds: float = 0.0

    @property
    def line(self) -> str:
        """What there is to say besides the numbers."""
        parts = [_first_line(self.first)] if self.first else []
        parts += [self.inside.line] if self.inside else []
        parts += [self.why] if self.why else []
        parts += [f"instead: {self.instead}"] if self.instead else []
        return "; ".join(parts)


@dataclass(frozen=True, kw_only=True, repr=False)
class Replay(Tabular):
    """Files of a bundle in runtimes. runs: one for each pair."""

    bundle: Path
    runs: tuple[Replayed, ...]

    @property
    def ok(self) -> bool:
        """Whether all integers are the same in all runtimes that are installed, of which there is one."""
        return self._same_without(MISSING)

    @property
    def same_where_taken(self) -> bool:
        """The same, but for files that a runtime refuses, as each does that lacks an operator of one of them."""
        return self._same_without(MISSING, REFUSED)

    def _same_without(self, *verdicts: str) -> bool:
        ran = [run for run in self.runs if run.verdict not in verdicts]
        return bool(ran) and all(run.verdict == SAME for run in ran)

    @property
    def table(self) -> Table:
        """A row for each run."""
        return Table(f"Replay of {self.bundle}", COLUMNS, rows(self.runs))

    def to_dict(self) -> dict[str, Any]:
        """For JSON: infinities are None."""
        runs = [_finite(asdict(run)) for run in self.runs]
        return {"bundle": str(self.bundle), "ok": self.ok, "runs": runs}


COLUMNS = ("runtime", "version", "file", "verdict", ">differing", ">largest", ">SQNR", "what")


def rows(runs: Sequence[Replayed]) -> list[list[str]]:
    """Cells of COLUMNS."""
    return [
        [
            run.runtime,
            run.version,
            f"{run.file} ({run.target})",
            run.verdict,
            f"{run.difference.differing:,} of {run.difference.elements:,}" if run.difference else "",
            _largest(run.difference) if run.difference and run.difference.differing else "",
            decibel(run.difference.sqnr_db) if run.difference and run.difference.differing else "",
            run.line,
        ]
        for run in runs
    ]


def _first_line(first: First) -> str:
    one = first.difference
    return (
        f"first different: {first.tensor}, made by {first.made_by} ({one.differing:,} of {one.elements:,} codes, by "
        f"{one.largest:g} at most{', asked for alone' if first.alone else ''})"
    )


def _largest(difference: Difference) -> str:
    return f"{difference.largest:.6g}{'' if difference.unit == 'integers' else ' (values)'}"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
