"""Options that belong together, as one decorator."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from lsq_export.data.specs import LARGEST_SIDE

LARGEST = 2**31 - 1  # more is not counted by all libraries
LONGEST_PAUSE = 3600.0  # seconds
Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Any], Any]


def apply_options(command: Command, *options: Decorator) -> Command:
    """The command with these options; `--help` shows them in this order."""
    for decorate in reversed(options):
        command = decorate(command)
    return command


class Count(click.IntRange):
    """A number of things. largest: by default, what torch and ONNX Runtime count to."""

    def __init__(self, min: int, max: int | None = None, *, largest: int = LARGEST) -> None:
        super().__init__(min, max)
        self._largest = largest

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if abs(number) > self._largest:
            self.fail(f"{number} is too large: use {self._largest:,} or less", param, ctx)
        return number


class Counts(click.ParamType):  # type: ignore[type-arg]
    """One number of things, or several different ones with commas between them: a tuple. largest: as of Count."""

    name = "INTEGER,…"

    def __init__(self, largest: int = LARGEST) -> None:
        self._count = Count(1, largest=largest)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        counts = tuple(self._count.convert(part.strip(), param, ctx) for part in str(value).split(","))
        if len(set(counts)) < len(counts):
            self.fail(f"{value!r:.80} has a number twice: give each once", param, ctx)
        return counts


class Number(click.FloatRange):
    """A finite number."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{param.name if param else 'it'} is {number}: use a finite number", param, ctx)
        return number


IMAGE_SIZE = Count(1, largest=LARGEST_SIDE)


class Seed(click.ParamType):  # type: ignore[type-arg]
    """Where random numbers start."""

    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = click.INT.convert(value, param, ctx)
        if not -LARGEST <= number <= LARGEST:
            self.fail(f"{number} is too large: use a number between ±{LARGEST:,}", param, ctx)
        return number


class FilePath(click.Path):
    """A path that a file system can have."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            text = os.fspath(value)
            if not text:
                self.fail("the path is empty: give the name of a file or folder", param, ctx)
            os.lstat(text)
        except (OSError, ValueError) as error:
            if isinstance(error, ValueError) or error.errno in (errno.ENAMETOOLONG, errno.EINVAL):
                self.fail(f"no file system takes this path ({len(str(text))} characters): give another", param, ctx)
        return super().convert(value, param, ctx)
