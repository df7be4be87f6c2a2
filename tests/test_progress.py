"""progress: a bar on a terminal, one line elsewhere, nothing without a console."""

from __future__ import annotations

import io
from collections.abc import Iterator
from threading import Event

import pytest
from rich.console import Console

from lsq_export import progress
from lsq_export.progress import Phases, Steps, _Lines, announcing, bar, counting, duration, optional_bar, stages


def shown(terminal: bool, steps: int = 2) -> str:
    progress.start()  # Other tests may have been silent for long.
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


class Clock:
    """In place of `time`: it stands until somebody moves it."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    progress.start()
    yield clock
    monkeypatch.undo()
    progress.start()


def test_lines_have_the_time_and_what_is_left(clock: Clock) -> None:
    text = io.StringIO()
    with bar(Console(file=text, force_terminal=False, width=120), "work", 4) as show:
        for epoch in (1, 2):
            for _ in range(2):
                clock.now += 10
                show("a step")
            show.line(f"epoch {epoch}")
    assert text.getvalue() == "work  epoch 1  20 s, about 20 s left\nwork  epoch 2  40 s\n"  # and no third line


def test_long_work_has_a_line_at_least_every_30_seconds(clock: Clock) -> None:
    """Within an epoch, and in work that tells nothing."""
    text = io.StringIO()
    console = Console(file=text, force_terminal=False, width=120)
    lines = _Lines(console, "work", 100)
    assert 0 < lines.due() <= 30
    for second in range(1, 101):
        clock.now += 1
        if second == 40:
            lines("step 1 of 100")
        lines.beat()
    said = text.getvalue().splitlines()
    assert said == [
        "work  25 s",
        "work  step 1 of 100  50 s, about 1 h 5 min left",
        "work  step 1 of 100  1 min 15 s, about 1 h 5 min left",
        "work  step 1 of 100  1 min 40 s, about 1 h 5 min left",
    ]


def test_a_gap_between_two_pieces_of_work_counts(clock: Clock) -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=False, width=120)
    _Lines(console, "first", 1).line("done")
    clock.now += 20  # of something that shows nothing
    second = _Lines(console, "second", 1)
    clock.now += 5
    second.beat()
    assert text.getvalue() == "first  done\nsecond  5 s\n"


def test_a_thread_looks_after_the_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    said = Event()

    class Said(io.StringIO):
        def write(self, text: str) -> int:
            said.set()
            return super().write(text)

    monkeypatch.setattr(progress, "EVERY", 0.0)
    with stages(Console(file=Said(), force_terminal=False), "export") as stage:
        stage("capture")
        assert said.wait(60)


def test_stages_of_short_work_say_nothing_or_that_they_are_done() -> None:
    for last, expected in ((False, ""), (True, "3 of 5: export\n")):
        text = io.StringIO()
        progress.start()
        with stages(Console(file=text, force_terminal=False), "3 of 5: export", last=last) as stage:
            stage("capture")
        assert text.getvalue() == expected


def test_stages_on_a_terminal() -> None:
    text = io.StringIO()
    with stages(Console(file=text, force_terminal=True, width=120), "export") as stage:
        stage("capture")
    assert "export" in text.getvalue()


def test_a_terminal_has_no_line_for_an_epoch() -> None:
    text = io.StringIO()
    with bar(Console(file=text, force_terminal=True, width=120), "work", 1) as show:
        show("step")
        show.line("epoch 1 of 1")
    assert "step" in text.getvalue() and "epoch" not in text.getvalue()
    Steps().line("nothing")


def test_phases_are_numbered() -> None:
    phases = Phases(2)
    assert [phases.next("train"), phases.next("export")] == ["1 of 2: train", "2 of 2: export"]
    assert Phases(1).next("train") == "train"


@pytest.mark.parametrize(
    ("seconds", "says"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (3900, "1 h 5 min")]
)
def test_durations(seconds: float, says: str) -> None:
    assert duration(seconds) == says


def test_in_python_the_stages_are_shown_where_they_are_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []
    with announcing("export", True, told.append) as begin:
        begin("fold")
    assert told == ["fold"] and "export" in capsys.readouterr().err
    with announcing("export", False, told.append) as begin:
        begin("rewrite")
    assert told == ["fold", "rewrite"] and capsys.readouterr().err == ""


@pytest.mark.parametrize("batches", [[1, 2], iter([1, 2])])
def test_in_python_images_are_counted_where_they_are_wanted(
    batches: object, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[int] = []
    with counting("verify", True, batches) as show:
        assert show is not None
        show(64)
        show(128)
    assert "verify" in capsys.readouterr().err
    with counting("verify", None, batches) as show:
        assert show is None
    with counting("verify", told.append, batches) as show:
        assert show is not None
        show(3)
    assert told == [3] and capsys.readouterr().err == ""
