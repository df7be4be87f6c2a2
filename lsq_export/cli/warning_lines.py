"""Warnings of this project as one line each on stderr; those of other libraries as Python shows them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import click

from calib.errors import ParityWarning, QuantizationWarning, shown


@contextmanager
def warnings_as_lines(silent: bool = False) -> Iterator[None]:
    """Print each QuantizationWarning as `warning: <message>`. silent: another process prints them."""
    other = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if not issubclass(category, QuantizationWarning):
            other(message, category, filename, lineno, file, line)
        elif not silent:
            click.echo(f"warning: {shown(' '.join(str(message).split()))}", err=True)

    with warnings.catch_warnings():
        warnings.simplefilter("default", QuantizationWarning)
        warnings.simplefilter("ignore", ParityWarning)  # the verdict is printed
        warnings.showwarning = show
        yield
