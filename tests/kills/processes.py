"""One command in a process of its own that something befalls: a kill, a full disk, a disk that is read-only.

The process is a fork of this one, which has imported everything, so that a command takes a second.
"""

from __future__ import annotations

import errno
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from lsq_export.bundle import whole_directory
from lsq_export.cli import cli
from support.moments import files_of_at_most, full_disk, watched


@dataclass(frozen=True)
class Fate:
    """What befalls a process.

    kind: "none"; "change", a kill at the n-th change of the disk, before or after it; "moment", a kill after so many
    seconds; "full" and "read-only", a disk that fails from the n-th change on; "small", no file grows beyond n bytes.
    """

    kind: str = "none"
    at: float = 0

    def __str__(self) -> str:
        return f"{self.kind} {self.at:.3f}" if self.kind == "moment" else f"{self.kind} {self.at:.0f}"


@dataclass(frozen=True)
class Ended:
    """code: of the exit, or minus the signal. changes: of the disk. output: stdout and stderr."""

    code: int
    seconds: float
    changes: int
    output: str


def run(arguments: list[str], cwd: Path, fate: Fate, *, two_steps: bool = False) -> Ended:
    """two_steps: as on a file system that cannot let two names change places."""
    read, write = os.pipe()
    started = time.perf_counter()
    child = os.fork()
    if child == 0:
        os.close(read)
        _child(arguments, cwd, fate, two_steps, write)
    os.close(write)
    timer = threading.Timer(fate.at, os.kill, (child, signal.SIGKILL)) if fate.kind == "moment" else None
    if timer is not None:
        timer.start()
    with open(read, encoding="utf-8", errors="replace") as pipe:
        said = pipe.read()
    if timer is not None:
        timer.cancel()
        timer.join()
    _, status = os.waitpid(child, 0)
    output, _, changes = said.rpartition("changes ")
    known = changes.strip().isdecimal()
    return Ended(
        code=os.waitstatus_to_exitcode(status),
        seconds=time.perf_counter() - started,
        changes=int(changes) if known else 0,
        output=output if known else said,
    )


def _child(arguments: list[str], cwd: Path, fate: Fate, two_steps: bool, out: int) -> None:
    """Does not return."""
    code = 70
    try:
        os.chdir(cwd)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(out, stream.fileno())
        if two_steps:
            whole_directory.exchange = lambda first, second: False
        seen: list[str] = []
        with ExitStack() as stack:
            stack.enter_context(watched(_counting(seen, fate, after=False), _counting(seen, fate, after=True)))
            if fate.kind in ("full", "read-only"):
                number = errno.ENOSPC if fate.kind == "full" else errno.EROFS
                stack.enter_context(full_disk(int(fate.at), number))
            elif fate.kind == "small":
                stack.enter_context(files_of_at_most(int(fate.at)))
            try:
                cli.main(arguments, prog_name="lsq-export")
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 0
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(out, f"changes {len(seen)}".encode())
    finally:
        os._exit(code)


def _counting(seen: list[str], fate: Fate, *, after: bool) -> Callable[[str], None]:
    def count(name: str) -> None:
        seen.append(name)
        if fate.kind == "change" and len(seen) == int(fate.at):
            os.kill(os.getpid(), signal.SIGKILL)

    return count


def kills(count: int, usual: Ended, draw: random.Random) -> list[Fate]:
    """Half of them at changes of the disk, evenly; half at random moments."""
    at_changes = min(count - count // 2, usual.changes)
    changes = [Fate("change", 1 + index * usual.changes // at_changes) for index in range(at_changes)]
    return changes + [Fate("moment", draw.uniform(0, usual.seconds)) for _ in range(count - at_changes)]


def disks(count: int, usual: Ended, draw: random.Random) -> list[Fate]:
    """Disks that are full or read-only, in turn."""
    kinds = ("full", "small", "read-only", "full")
    limit = {"full": usual.changes // 2, "small": 40_000, "read-only": 1}
    return [
        Fate(kind, draw.randint(1, max(1, limit[kind])))
        for kind in (kinds[index % len(kinds)] for index in range(count))
    ]
