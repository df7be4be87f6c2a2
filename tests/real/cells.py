"""What the tables of both parts show alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any

from lsq_export.bench.machine import this_machine

from .files import STATIC


def measured_on() -> str:
    """The last line of a part."""
    return f"\nMeasured on {date.today().isoformat()}, {this_machine()}.\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def best_static(ways: dict[str, Any]) -> str:
    """The method with the highest score."""
    return max(STATIC, key=lambda name: -1 if ways[name]["score"] is None else ways[name]["score"])


def score(way: dict[str, Any]) -> str:
    """As shown."""
    if way["score"] is None:
        return f"no file: {way['why'][:80].replace('|', '/')}"
    return f"{way['score']:.1%}, {way['sqnr_db']:.1f} dB"


def differing(ours: dict[str, Any]) -> str:
    """Elements that differ, as shown."""
    return str(ours["differing"]) + ("" if ours["promises"] else " (a promise is broken)")


def seconds_of(way: dict[str, Any]) -> str:
    """Of the processor, as shown."""
    return "-" if way["cpu"] is None else f"{way['cpu']:.0f}"
