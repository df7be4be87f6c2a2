"""The progress bar of long loops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


@contextmanager
def bar(console: Console, title: str, total: int) -> Iterator[Callable[[str], None]]:
    """Show a bar of `total` steps on `console`; call the value after each step with the text to show beside it.

    Where the console is no terminal, there is one line with the last text, once the loop has ended well. (An error is
    then the only line on stderr.)
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    texts = TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[status]}")
    columns = (*texts, TimeElapsedColumn(), TimeRemainingColumn())
    last = ""
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=total, status="")

        def show(text: str) -> None:
            nonlocal last
            last = text
            progress.update(task, advance=1, status=text)

        yield show
    if not console.is_terminal:
        console.print(f"{title}  {last}", markup=False)


def optional_bar(console: Console | None, title: str, total: int) -> AbstractContextManager[Callable[[str], None]]:
    """`bar`; or, without a console or without steps, one that shows nothing."""
    return nullcontext(lambda text: None) if console is None or not total else bar(console, title, total)
