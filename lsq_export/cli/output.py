"""What commands print: rich tables, or JSON on stdout for other programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from calib.errors import QuantizationError, shown
from lsq_export.files import atomic

from .options import FilePath

Command = TypeVar("Command", bound=Callable[..., Any])
Entry = TypeVar("Entry")
STDOUT = Path("-")
JSON, HTML = "{[", "<"  # what files of results begin with
_HEAD = 64  # bytes that tell what a file is
WIDTH = 240  # columns of tables, and where stdout is no terminal: wide enough that no name is cut


def say(line: str = "", *, err: bool = False) -> None:
    """Print one line: on stdout, or on stderr. Names in it are data, and whatever a terminal would obey is escaped."""
    click.echo(shown(line), err=err)


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        """rich would exit with 1 here, which means a parity failure: leave it to the group."""
        raise BrokenPipeError


def console(stderr: bool = False) -> Console:
    """A console for the terminal as it is now (tests replace stdout), and as long as it lives.

    A spinner goes on while `capture` silences stderr.
    """
    file = sys.stderr if stderr else sys.stdout
    plain: dict[str, Any] = {"file": file, "highlight": False, "markup": False, "emoji": False}
    terminal = _Console(**plain)
    return terminal if terminal.is_terminal else _Console(**plain, width=WIDTH)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on stdout. A column whose name starts with ">" is aligned right; None is an empty cell.

    A terminal that is too narrow continues the lines: nobody can read cells that are folded one by one.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(
            Text(shown(column.lstrip(">"))), justify="right" if column.startswith(">") else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*(Text("" if cell is None else shown(cell)) for cell in row))  # Text: names may hold [brackets]
    out = console()
    out.width = max(out.width, WIDTH)
    out.print(Text(shown(title), style="bold"), table, "", sep="\n")


def print_entries(title: str, columns: Mapping[str, Callable[[Entry], object]], entries: Iterable[Entry]) -> None:
    """A table on stdout with a row for each entry. columns: {name: function that gives its cell}, see `print_table`."""
    print_table(title, list(columns), ([cell(entry) for cell in columns.values()] for entry in entries))


class OutputFile(FilePath):
    """A file to write, as a Path; "-" is stdout if allow_dash.

    That its directory is missing shows before the work, not after it, and that it is a file of another kind: what such
    a file is replaced by begins with one of the characters `starts`; None: it is not replaced, but continued.
    """

    def __init__(self, *, allow_dash: bool = False, starts: str | None = JSON) -> None:
        super().__init__(dir_okay=False, allow_dash=allow_dash)
        self._starts = starts

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if path != STDOUT and not path.parent.is_dir():
            self.fail(f"{path} cannot be written (there is no directory {path.parent})", param, ctx)
        if path != STDOUT and self._starts is not None:
            check_replaceable(path, self._starts)
            check_new(param.opts[-1] if param else "the file", path)
        return path


def check_new(option: str, path: Path) -> None:
    """Whether a file can come into being there. Errors (click.UsageError): it cannot, as in /proc."""
    try:
        atomic.check(path)
    except OSError as error:
        raise click.UsageError(f"{option} {path} cannot be written ({error.strerror}): give another name") from error


def check_replaceable(path: Path, starts: str) -> None:
    """Whether the results of a command may be written there.

    starts: characters that such a file begins with. Errors (QuantizationError): it is a file of another kind, which
    would be lost, or one of a bundle.
    """
    if not path.is_file():
        return
    with path.open("rb") as file:
        head = file.read(_HEAD)
    begins = head.lstrip()[:1].decode("latin-1")
    if b"\0" in head or begins not in starts:
        raise QuantizationError(f"{path} exists and is another kind of file, so it is not replaced: give another name")
    if any((parent / "SHA256SUMS").is_file() for parent in path.resolve().parents):
        from lsq_export.bundle.records import check_output

        check_output(path)


def json_option(function: Command) -> Command:
    """The option --json FILE of commands that measure, as the argument json_file; `write_json_file` writes it."""
    help_text = "Write JSON to this file, too (-: to stdout alone)."
    return click.option("--json", "json_file", metavar="FILE", type=OutputFile(allow_dash=True), help=help_text)(
        function
    )


def write_json_file(json_file: Path | None, value: object) -> None:
    """Write what the option asked for. Errors (click.BadParameter): a file that cannot be written."""
    if json_file is None:
        return
    text = json.dumps(value, indent=2) + "\n"
    if json_file == STDOUT:
        click.echo(text, nl=False)
        return
    write_file("--json", json_file, text)


def write_file(option: str, file: Path, text: str) -> None:
    """Write what an option asked for. Errors (click.BadParameter): a file that cannot be written."""
    from lsq_export.bundle.records import write_output

    try:
        write_output(file, text)
    except QuantizationError as error:
        cause = error.__cause__
        text = f"{file} cannot be written ({cause.strerror})" if isinstance(cause, OSError) else str(error)
        raise click.BadParameter(text, param_hint=option) from error


def print_json(value: object) -> None:
    """JSON on stdout, nothing else; NaN and infinity are refused (they are no JSON)."""
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False)
    click.echo("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text))
