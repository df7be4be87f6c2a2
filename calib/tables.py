"""What objects show of themselves: a few lines as text, a table in notebooks."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from textwrap import wrap

from .errors import shown

SHOWN = 8  # rows in a text; notebooks show all
WIDTH = 118  # columns of a note


@dataclass(frozen=True)
class Table:
    """Rows of cells under a title. A column whose name starts with ">" is aligned right. notes: lines below."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    notes: Sequence[str] = ()

    def text(self, most: int = SHOWN) -> str:
        """Some lines: title, so many rows at most, notes."""
        columns, rows = self._filled()
        first = rows[:most]
        lines = [[column.lstrip(">") for column in columns], *first] if first else []
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        body = ["  ".join(map(_aligned, columns, line, widths)).rstrip() for line in lines]
        rest = len(rows) - len(first)
        more = [f"… and {rest} more"] if rest else []
        below = [line for note in self.notes for line in wrap(shown(note), WIDTH, break_long_words=False)]
        return "\n".join([shown(self.title), *(f"  {line}" for line in (*body, *more)), *below])

    def html(self) -> str:
        """A table with all rows; whatever names hold is escaped."""
        columns, rows = self._filled()
        head = _row("th", columns, [column.lstrip(">") for column in columns])
        body = "".join(_row("td", columns, row) for row in rows)
        table = f"<table><thead>{head}</thead><tbody>{body}</tbody></table>" if rows else ""
        notes = "".join(f"<div>{escape(shown(note))}</div>" for note in self.notes)
        return f"<div><strong>{escape(shown(self.title))}</strong></div>{table}{notes}"

    def _filled(self) -> tuple[list[str], list[list[str]]]:
        """(columns, rows of text) without the columns in which all cells are empty."""
        rows = [["" if cell is None else shown(" ".join(str(cell).split())) for cell in row] for row in self.rows]
        kept = [index for index in range(len(self.columns)) if any(row[index] for row in rows)]
        return [self.columns[index] for index in kept], [[row[index] for index in kept] for row in rows]


class Tabular:
    """Is shown as its table: as text by repr(), as HTML in notebooks."""

    @property
    @abstractmethod
    def table(self) -> Table:
        """What is shown."""

    def __repr__(self) -> str:
        return self.table.text()

    def _repr_html_(self) -> str:
        return self.table.html()


def percent(value: float | None) -> str:
    """98.05%; empty for None."""
    return "" if value is None else f"{value:.2%}"


def decibel(value: float | None) -> str:
    """32.7 dB. None: what JSON says for infinity."""
    return f"{math.inf if value is None else value:.1f} dB"


def megabytes(size: float) -> str:
    """0.02 MB."""
    return f"{size / 1e6:.2f} MB"


def span(values: Sequence[float]) -> str:
    """The number, or smallest … largest (how many) of several."""
    low, high = min(values), max(values)
    if len(values) == 1:
        return f"{low:.4g}"
    return f"{low:.4g} ({len(values)})" if low == high else f"{low:.4g} … {high:.4g} ({len(values)})"


def _row(tag: str, columns: Sequence[str], cells: Sequence[str]) -> str:
    """One row of an HTML table. tag: th or td."""
    sides = ("right" if column.startswith(">") else "left" for column in columns)
    parts = (
        f'<{tag} style="padding:1px 8px;text-align:{side}">{escape(cell)}</{tag}>'
        for side, cell in zip(sides, cells, strict=True)
    )
    return f"<tr>{''.join(parts)}</tr>"


def _aligned(column: str, cell: str, width: int) -> str:
    return cell.rjust(width) if column.startswith(">") else cell.ljust(width)
