"""bench/load.py: a busy machine is one on which this process's threads waited for cores."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from lsq_export.bench import load
from lsq_export.bench.load import LoadWatch


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files of a system that nobody uses."""
    monkeypatch.setattr(load, "TASKS", tmp_path / "task")
    monkeypatch.setattr(load, "STAT", tmp_path / "stat")
    monkeypatch.setattr(load.os, "getloadavg", lambda: (4.2, 0.0, 0.0))
    monkeypatch.setattr(load, "available_cores", lambda: 2)
    thread(tmp_path, 1, running=5, waiting=900)
    ticks(tmp_path)
    return tmp_path


def thread(system: Path, number: int, running: int, waiting: int) -> None:
    directory = system / "task" / str(number)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "schedstat").write_text(f"{running} {waiting} 7\n")


def ticks(system: Path, idle: int = 0, stolen: int = 0) -> None:
    (system / "stat").write_text(f"cpu  1 2 3 {idle} 5 6 7 {stolen} 0 0\ncpu0 1\n")


def test_threads_that_wait(system: Path) -> None:
    watch = LoadWatch()
    assert watch.busy() is None  # what was before does not count
    thread(system, 1, running=1005, waiting=950)
    assert watch.busy() is None
    thread(system, 2, running=1000, waiting=1000)  # which began meanwhile
    assert watch.busy() == "threads waited 34% of their time for a core (load 4.2 on 2 cores)"


def test_threads_of_another_process_that_wait(system: Path) -> None:
    """The directories are those of /proc/PROCESS/task."""
    load.TASKS.rename(system / "self-tasks")
    (system / "self").mkdir()
    (system / "self-tasks").rename(system / "self" / "task")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "TASKS", system / "self" / "task")
        thread(system / "77", 3, running=5, waiting=900)
        watch, alone = LoadWatch([77]), LoadWatch()
        thread(system / "77", 3, running=1005, waiting=2900)
        assert watch.busy() == "threads waited 67% of their time for a core (load 4.2 on 2 cores)"
        assert alone.busy() is None


def test_a_host_that_gives_the_cores_to_others(system: Path) -> None:
    watch = LoadWatch()
    ticks(system, idle=95, stolen=5)
    assert watch.busy() is None
    ticks(system, idle=60, stolen=40)
    assert watch.busy() == "other virtual machines took 40% of the time (load 4.2 on 2 cores)"


def test_a_system_that_tells_only_its_load(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "TASKS", system / "none")
    monkeypatch.setattr(load, "STAT", system / "none")
    assert LoadWatch().busy() == "load 4.2 on 2 cores"
    monkeypatch.setattr(load.os, "getloadavg", lambda: (2.5, 0.0, 0.0))
    assert LoadWatch().busy() is None


def test_this_system_tells() -> None:
    before = load._thread_times()
    used = time.thread_time() + 0.1  # the kernel counts now and then, at the latest when it looks at the thread again
    while time.thread_time() < used:
        sum(i * i for i in range(10_000))
    running = {name: times[0] for name, times in load._thread_times().items()}
    assert not before or sum(running.values()) > sum(times[0] for times in before.values())
