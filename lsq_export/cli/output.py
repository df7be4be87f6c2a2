"""What commands print: rich tables, or JSON on stdout for other programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPE_WIDTH = 240  # columns where stdout is no terminal: wide enough that no name is cut


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        """rich would exit with 1 here, which means a parity failure: leave it to the group."""
        raise BrokenPipeError


def console(stderr: bool = False) -> Console:
    """A console for the terminal as it is now (tests replace stdout), and as long as it lives: a spinner goes on while `capture` silences stderr."""
    file = sys.stderr if stderr else sys.stdout
    found = _Console(file=file, highlight=False)
    return found if found.is_terminal else _Console(file=file, highlight=False, width=PIPE_WIDTH)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on stdout. A column whose name starts with ">" is aligned right; None is an empty cell."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))  # Text: names may hold [brackets]
    console().print(Text(title, style="bold"), table, "", sep="\n")


def print_json(value: object) -> None:
    """JSON on stdout, nothing else; NaN and infinity are refused (they are no JSON)."""
    click.echo(json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False))
