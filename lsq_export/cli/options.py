"""Options that belong together, as one decorator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Any], Any]


def apply_options(command: Command, *options: Decorator) -> Command:
    """The command with these options; `--help` shows them in this order."""
    for decorate in reversed(options):
        command = decorate(command)
    return command
