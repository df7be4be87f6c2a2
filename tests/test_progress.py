"""progress: a bar on a terminal, one line elsewhere, nothing without a console."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from lsq_export.progress import bar, optional_bar


def shown(terminal: bool, steps: int = 2) -> str:
    text = io.StringIO()
    with bar(Console(file=text, force_terminal=terminal, width=120), "work", steps) as show:
        for step in range(steps):
            show(f"step {step} [of two]")
    return text.getvalue()


def test_without_a_terminal_there_is_one_line_with_the_last_text() -> None:
    assert shown(terminal=False) == "work  step 1 [of two]\n"


def test_a_terminal_has_a_bar() -> None:
    assert "work" in shown(terminal=True) and "━" in shown(terminal=True)


def test_a_loop_that_fails_prints_no_line() -> None:
    text = io.StringIO()
    with pytest.raises(ValueError, match="no"), bar(Console(file=text, force_terminal=False), "work", 2) as show:
        show("step 0")
        raise ValueError("no")
    assert text.getvalue() == ""


@pytest.mark.parametrize(("console", "steps"), [(None, 3), (Console(file=io.StringIO()), 0)])
def test_nothing_to_show(console: Console | None, steps: int) -> None:
    with optional_bar(console, "work", steps) as show:
        show("step")
    assert console is None or console.file.getvalue() == ""  # type: ignore[attr-defined]  # the file is a StringIO
