"""The option --threads, which means the same in every command that computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from lsq_export.threads import most_threads

from .options import Count

Command = TypeVar("Command", bound=Callable[..., Any])
CORES = "the cores that this process may use"
BY_SIZE = "one for small networks, else the cores that this process may use"


TEXT = "Compute with this many threads, in torch and in ONNX Runtime."


def threads_option(default: str | int = CORES) -> Callable[[Command], Command]:
    """Decorator that gives a command the option, as the argument `threads`: a number, or None where it is left out.

    default: that number where the option is left out; or, in words, how the command finds one, by
    `lsq_export.threads.using_threads` for CORES.
    """
    if isinstance(default, int):
        return click.option("--threads", type=Count(1, largest=most_threads()), default=default, help=TEXT)
    return click.option("--threads", type=Count(1, largest=most_threads()), help=f"{TEXT}  [default: {default}]")
