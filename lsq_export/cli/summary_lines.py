"""The answer first, for `export`, `verify` and `demo`; tables come with --verbose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from lsq_export.verification.summary import summary, title

from .options import Command
from .output import say

if TYPE_CHECKING:
    from lsq_export.verification.parity import Parity

LABEL = 15  # columns


def verbose_option(command: Command) -> Command:
    """The option -v of commands that print a summary."""
    return click.option("-v", "--verbose", is_flag=True, help="Print the tables, too, after the summary.")(command)


def print_summary(
    manifest: Mapping[str, Any],
    parity: Parity,
    *,
    speed: str | None = None,
    measured: str | None = None,
    beside_float: bool = False,
) -> None:
    """At most ten lines on stdout. speed, measured, beside_float: as in `summary`."""
    plain = parity.to_dict()
    say(title(manifest, plain))
    for label, text in summary(manifest, plain, speed=speed, measured=measured, beside_float=beside_float):
        print_line(label, text)


def print_line(label: str, text: str) -> None:
    """One line of a summary."""
    say(f"{label:<{LABEL}}{text}")
