"""The table of docs/after.md, between its two marks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from .advice import ADVICE
from .networks import FILES

Entry = dict[str, Any]
ROUNDING = 1e-5  # of the largest output: what float rounding may do to a qdq file (docs/deploying.md)
FIRST, LAST = "<!-- measured: make after -->", "<!-- measured -->"
SAME, NEAR, REFUSED, UNLOADABLE, DIFFERS = "=", "≈", "refused", "does not load", "differs"


def write_docs(entries: Sequence[Entry], tools: Mapping[str, tuple[str, str]], docs: Path) -> None:
    """tools: {name: (what it is, package and version)}, in the order of the rows."""
    path = docs / "after.md"
    text = path.read_text(encoding="utf-8")
    start, end = text.index(FIRST) + len(FIRST), text.index(LAST)
    path.write_text(f"{text[:start]}\n\n{table(entries, tools)}\n{text[end:]}", encoding="utf-8")


def table(entries: Sequence[Entry], tools: Mapping[str, tuple[str, str]]) -> str:
    """Markdown, with the day of the measurement."""
    files = [f"{target} {name}" for target, name in FILES]
    lines = [
        f"Measured {date.today()}.",
        "",
        f"| tool | version | {' | '.join(files)} | what to do |",
        "|---" * 6 + "|",
    ]
    for tool, (what, package) in tools.items():
        rows = [[e for e in entries if (e["tool"], e["file"]) == (tool, file)] for file in files]
        cells = [what, package, *map(cell, rows), ADVICE.get(tool, "")]
        lines.append(f"| {' | '.join(text.replace('|', chr(92) + '|') for text in cells)} |")
    return "\n".join(lines) + "\n"


def cell(entries: Sequence[Entry]) -> str:
    """What happened to one kind of file, of all networks."""
    verdicts = [verdict(entry) for entry in entries]
    worst = [one for one in (DIFFERS, UNLOADABLE, REFUSED, NEAR, SAME) if one in verdicts]
    if not worst or all("not asked" in entry.get("refused", "") for entry in entries):
        return ""
    text = f"{worst[0]}{_how_much(entries)}" if worst[0] == DIFFERS else worst[0]
    count = verdicts.count(worst[0])
    return text if worst[0] in (NEAR, SAME) or count == len(entries) else f"{text} ({count} of {len(entries)})"


def verdict(entry: Entry) -> str:
    """Of one file: the worse of its two sessions, which are compared with the file before at the same level."""
    if "refused" in entry:
        return REFUSED
    sessions = [entry["default"], entry["disabled"]]
    if any("error" in one for one in sessions):
        return UNLOADABLE
    if entry["default"]["outputs"] == entry["disabled"]["outputs"] == 0 and not any(map(_inside, sessions)):
        return SAME
    near = all(one["largest"] <= ROUNDING for one in sessions) and not _inside(entry["default"])
    return NEAR if near else DIFFERS


def _inside(session: Entry) -> int:
    return int(session.get("inside", 0))


def _how_much(entries: Sequence[Entry]) -> str:
    """Shares of codes inside and sizes of errors in the default session, over the networks."""
    sessions = [entry["default"] for entry in entries if verdict(entry) == DIFFERS]
    codes = [100 * one["inside"] / one["of"] for one in sessions if one.get("of")]
    outputs = [100 * one["largest"] for one in sessions]
    inside = f", {_range(codes)} of the codes inside" if codes else ""
    return f": outputs by {_range(outputs)}{inside}"


def _range(values: Sequence[float]) -> str:
    if max(values) < 0.05:
        return "less than 0.1 %"
    low, high = (re.sub(r"\.0$", "", f"{value:.1f}") for value in (min(values), max(values)))
    return f"{high} %" if low == high else f"{low} to {high} %"
