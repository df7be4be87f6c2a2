"""What runtimes made of the files of a bundle: a row for each runtime, a column for each file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Values = Mapping[str, Any]
SAME, MISSING = "same", "missing"
TEXTS = ("runtime", "version", "file", "target", "verdict", "why", "instead")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """kind: "good", "bad", or "quiet" where nothing was run."""

    text: str
    kind: str


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """files: the columns. rows: (runtime, version, a cell for each file, what there is to say)."""

    files: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[Cell, ...], str], ...]


def matrix(runs: Sequence[Values]) -> Matrix | None:
    """Of runs as `Replay.to_dict` has them; None where there are none. Runtimes that are not installed come last."""
    files = tuple(dict.fromkeys(run["file"] for run in runs))
    names = list(dict.fromkeys(run["runtime"] for run in runs))
    rows = [_row(name, {run["file"]: run for run in runs if run["runtime"] == name}, files) for name in names]
    return Matrix(files=files, rows=tuple(sorted(rows, key=_is_missing))) if runs else None


def _is_missing(row: tuple[str, str, tuple[Cell, ...], str]) -> bool:
    return all(cell.kind == "quiet" for cell in row[2])


def _row(name: str, found: Mapping[str, Values], files: tuple[str, ...]) -> tuple[str, str, tuple[Cell, ...], str]:
    said = [line for run in found.values() for line in (_line(run),) if line]
    version = next((run["version"] for run in found.values() if run["version"]), "")
    cells = tuple(_cell(found[file]) if file in found else Cell(text="", kind="quiet") for file in files)
    return name, version, cells, " ".join(dict.fromkeys(said))


def _cell(run: Values) -> Cell:
    if run["verdict"] == MISSING:
        return Cell(text="not installed", kind="quiet")
    found = run["difference"]
    count = f": {found['differing']:,} of {found['elements']:,}" if found else ""
    return Cell(text=f"{run['verdict']}{count}", kind="good" if run["verdict"] == SAME else "bad")


def _line(run: Values) -> str:
    """What there is to say besides the numbers."""
    if run["verdict"] in (SAME, MISSING):
        return ""
    first, parts = run.get("first"), []
    if first:
        parts.append(f"first different: {first['tensor']}, made by {first['made_by']}")
    parts += [run["why"]] if run["why"] else []
    parts += [f"instead: {run['instead']}"] if run["instead"] else []
    return f"{run['file']}: {'; '.join(parts)}." if parts else ""


def are_runs(runs: object) -> bool:
    """Whether these are runs, with all that the matrix shows of them."""
    return isinstance(runs, list) and all(
        isinstance(run, dict)
        and all(isinstance(run.get(key), str) for key in TEXTS)
        and _is_counted(run.get("difference"), "differing", "elements", kind=int)
        and _is_counted(run.get("first"), "tensor", "made_by", kind=str)
        for run in runs
    )


def _is_counted(value: object, *keys: str, kind: type) -> bool:
    return value is None or (isinstance(value, dict) and all(isinstance(value.get(key), kind) for key in keys))
