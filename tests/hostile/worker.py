"""Processes that run cases one after another, each in its own folder, with limits of time and memory.

What a process opens is watched by Python's own audit hooks. (`python -m hostile --strace` has the kernel tell it, which
also knows what libraries open themselves.)
"""

from __future__ import annotations

import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .cases import make_case

SECONDS, GIGABYTES = 60, 4.0
# torch makes its folder of compiled kernels where it is imported; the process writes nothing into it.
OWN = (
    *("/proc", "/sys", "/dev/null", "/dev/urandom", "/etc/localtime", "/usr/share/zoneinfo", "/usr/lib", "/lib"),
    f"{tempfile.gettempdir()}/torchinductor_",
)
WATCHED = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate")
NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "subprocess.Popen", "os.exec", "os.system")


@dataclass(frozen=True)
class Outcome:
    """What became of a case. code: the exit code, or what ended it ("hang", "signal 11"). foreign: opened elsewhere."""

    seed: int
    kind: str
    command: str
    code: int | str
    text: str
    seconds: float
    gigabytes: float
    foreign: tuple[str, ...] = ()


class Worker:
    """A forked process; a new one takes its place when it dies, hangs, or has done enough."""

    def __init__(self, base: Path) -> None:
        self._base, self._process, self._cases = base, 0, 0

    def run(self, seed: int) -> Outcome:
        if not self._process:
            self._start()
        os.write(self._ask, f"{seed}\n".encode())
        begin, answer = time.monotonic(), b""
        while not answer.endswith(b"\n"):
            left = SECONDS - (time.monotonic() - begin)
            ready, _, _ = select.select([self._answer], [], [], max(0.0, left))
            part = os.read(self._answer, 1 << 20) if ready else b""
            if not part:
                return self._lost(seed, "hang" if not ready else "", time.monotonic() - begin)
            answer += part
        self._cases += 1
        if self._cases >= 300:
            self.stop()
        found = json.loads(answer)
        return Outcome(**{**found, "foreign": tuple(found["foreign"])})

    def stop(self) -> None:
        """End the process."""
        if self._process:
            os.kill(self._process, signal.SIGKILL)
            os.waitpid(self._process, 0)
            os.close(self._ask), os.close(self._answer)
        self._process = 0

    def _start(self) -> None:
        here, self._ask = os.pipe()
        self._answer, there = os.pipe()
        self._cases = 0
        self._process = os.fork()
        if not self._process:
            os.close(self._ask), os.close(self._answer)
            _serve(here, there, self._base)
        os.close(here), os.close(there)

    def _lost(self, seed: int, why: str, seconds: float) -> Outcome:
        if why:
            os.kill(self._process, signal.SIGKILL)
        _, status = os.waitpid(self._process, 0)
        os.close(self._ask), os.close(self._answer)
        self._process = 0
        why = why or f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {status}"
        with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
            case = make_case(seed, self._base, Path(folder))
        return Outcome(seed, case.kind, case.arguments[0], why, "", round(seconds, 2), 0.0)


def _serve(ask: int, answer: int, base: Path) -> None:
    """In the process: one line with a seed, one line with what became of it."""
    code = 1
    try:
        limit = int((_pages() * resource.getpagesize()) + GIGABYTES * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        watch = _Watch()
        with os.fdopen(ask) as lines:
            for line in lines:
                outcome = _one(int(line), base, watch)
                os.write(answer, (json.dumps(asdict(outcome)) + "\n").encode())
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _one(seed: int, base: Path, watch: _Watch) -> Outcome:
    from support.commands import invoke

    folder = Path(tempfile.mkdtemp(prefix="hostile-"))
    try:
        case = make_case(seed, base, folder)
        begin = time.monotonic()
        watch.begin((folder, base))
        result = invoke(*case.arguments)
        foreign = watch.end()
        seconds, code, text = time.monotonic() - begin, result.exit_code, result.stderr
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            code, text = 70, "".join(traceback.format_exception(result.exception))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        return Outcome(
            seed, case.kind, case.arguments[0], code, text[-1500:], round(seconds, 2), round(peak, 2), tuple(foreign)
        )
    finally:
        watch.end()
        shutil.rmtree(folder, ignore_errors=True)


def _pages() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0])


class _Watch:
    """What Python opens, changes and connects to while a case runs."""

    def __init__(self) -> None:
        self._allowed: tuple[str, ...] | None = None
        self._found: list[str] = []
        code = {sys.prefix, sys.base_prefix, str(Path(__file__).resolve().parents[2])}
        code |= {str(Path(entry).resolve()) for entry in sys.path if entry}
        self._always = (*OWN, *sorted(code))
        sys.addaudithook(self._hook)

    def begin(self, folders: Sequence[Path]) -> None:
        self._found = []
        self._allowed = (*self._always, *(str(folder.resolve()) for folder in folders))

    def end(self) -> list[str]:
        self._allowed = None
        return self._found

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        allowed = self._allowed
        if allowed is None:
            return
        if event in NETWORK:
            self._found.append(f"{event} {arguments!r:.200}")
        if event in WATCHED and isinstance(arguments[0], (str, bytes, os.PathLike)):
            self._allowed = None  # what this looks up itself is not watched
            path = os.path.realpath(os.fsdecode(arguments[0]))
            mine = path.startswith(allowed) and not path.endswith("/outside")
            self._allowed = allowed
            relative = event == "open" and not os.path.isabs(os.fsdecode(arguments[0]))
            if not mine and not relative:
                self._found.append(f"{event} {path}")
