"""What long work shows: a bar or a spinner on a terminal, lines elsewhere.

Where the console is no terminal, there is a line at least every 30 seconds, with what is being done, for how long, and
about how long it still takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sized
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Event, Thread
from typing import TYPE_CHECKING

from calib.errors import shown
from calib.words import counted

if TYPE_CHECKING:
    from rich.console import Console

EVERY = 25.0  # seconds between lines; a busy machine may be late
_last_line = time.monotonic()  # of this command: gaps between two pieces of work count


def start() -> None:
    """A command begins: the time until its first line counts from here."""
    global _last_line
    _last_line = time.monotonic()


class Steps:
    """What a loop calls: the object itself after each step, with what is reached. This one shows nothing."""

    def __call__(self, text: str) -> None:
        """A step is done."""

    def line(self, text: str) -> None:
        """A part is done that deserves a line: an epoch, say. A terminal shows its bar instead."""


class _Bar(Steps):
    """The bar of a terminal."""

    def __init__(self, advance: Callable[[str], None]) -> None:
        self._advance = advance

    def __call__(self, text: str) -> None:
        self._advance(text)


class _Lines(Steps):
    """Lines instead of a bar. total: steps; None where nobody knows."""

    def __init__(self, console: Console, title: str, total: int | None) -> None:
        self._console, self._title, self._total = console, title, total
        self._begin, self._done, self._text = time.monotonic(), 0, ""
        self._stepped = 0.0  # seconds until the last step
        self._whole = False  # whether the last text has its line

    def __call__(self, text: str) -> None:
        self._done, self._text, self._whole = self._done + 1, text, False
        self._stepped = time.monotonic() - self._begin

    def line(self, text: str) -> None:
        self._print(text)
        self._whole = True

    def due(self) -> float:
        """Seconds until the next line; 0: now."""
        return max(0.0, _last_line + EVERY - time.monotonic())

    def beat(self) -> None:
        """Say where the work is, if it is time."""
        if not self.due():
            self._print(self._text)

    def end(self) -> None:
        """The work has ended well: the last text, if it has no line."""
        if not self._whole:
            self._print(self._text, left=False)

    def _print(self, text: str, left: bool = True) -> None:
        global _last_line
        _last_line = now = time.monotonic()
        seconds, times = now - self._begin, ""
        if seconds >= 1:
            times = duration(seconds)
            if left and self._total and 0 < self._done < self._total:
                rest = self._stepped / self._done * self._total - seconds
                times += f", about {duration(rest)} left" if rest > 0 else ""
        parts = [part for part in (self._title, text, times) if part]
        self._console.print(shown("  ".join(parts)), markup=False)


@contextmanager
def _beating(lines: _Lines) -> Iterator[None]:
    """Let a thread look after the lines inside the block."""
    stop = Event()

    def watch() -> None:
        while not stop.wait(lines.due()):
            lines.beat()

    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def bar(console: Console, title: str, total: int) -> Iterator[Steps]:
    """Show a bar of `total` steps on `console`; call the value after each step with the text to show beside it.

    Where the console is no terminal, there are lines (see above), the last one once the loop has ended well. (An error
    is then the only line on stderr.)
    """
    if not console.is_terminal:
        lines = _Lines(console, title, total)
        with _beating(lines):
            yield lines
        lines.end()
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    title_column, status_column = (
        TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[status]}")
    )
    texts = title_column, BarColumn(bar_width=24), status_column
    columns = (*texts, TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(shown(title), total=total, status="")
        yield _Bar(lambda text: progress.update(task, advance=1, status=shown(text)))


def optional_bar(console: Console | None, title: str, total: int) -> AbstractContextManager[Steps]:
    """`bar`; or, without a console or without steps, one that shows nothing."""
    return nullcontext(Steps()) if console is None or not total else bar(console, title, total)


@contextmanager
def stages(console: Console, title: str, *, last: bool = False) -> Iterator[Callable[[str], None]]:
    """Show a spinner on `console`; call the value with the name of each stage of the work as it begins.

    Where the console is no terminal, there are the lines of long work. last: and one at the end.
    """
    if not console.is_terminal:
        lines = _Lines(console, title, None)
        with _beating(lines):
            yield lines
        if last:
            lines("")  # no stage: all are done
            lines.end()
        return
    from rich.text import Text  # a string would be markup here

    with console.status(Text(shown(title))) as status:
        yield lambda stage: status.update(Text(shown(f"{title}: {stage}")))


@contextmanager
def announcing(title: str, wanted: bool, on_stage: Callable[[str], None]) -> Iterator[Callable[[str], None]]:
    """A function for the name of each stage as it begins: it calls on_stage, and shows `stages` on stderr if wanted."""
    if not wanted:
        yield on_stage
        return
    with stages(_stderr(), title, last=True) as show:

        def begin(stage: str) -> None:
            show(stage)
            on_stage(stage)

        yield begin


@contextmanager
def counting(
    title: str, wanted: Callable[[int], None] | bool | None, batches: object
) -> Iterator[Callable[[int], None] | None]:
    """A function for the number of images so far: the one that was given; with True, one that shows a bar on stderr.

    batches: without a length, there is no bar but the name of the work.
    """
    if not isinstance(wanted, bool) or not wanted:
        yield wanted or None
        return
    if isinstance(batches, Sized):
        with bar(_stderr(), title, len(batches)) as advance:
            yield lambda images: advance(counted(images, "image"))
        return
    with stages(_stderr(), title, last=True) as show:
        yield lambda images: show(counted(images, "image"))


def _stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False)


class Phases:
    """The parts of a long command, numbered in the order in which they are asked for: "2 of 5: export".

    A single part has no number.
    """

    def __init__(self, total: int) -> None:
        self._total, self._number = total, 0

    def next(self, name: str) -> str:
        """The title of the phase that begins now."""
        self._number += 1
        return f"{self._number} of {self._total}: {name}" if self._total > 1 else name


def duration(seconds: float) -> str:
    """Such as: 45 s, 3 min 20 s, 1 h 5 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_of_hour = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_of_hour} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
