"""What a process, and those that it starts, do with the network and with files: by strace."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

CALLS = (
    "network,open,openat,creat,truncate,mkdir,mkdirat,rmdir,unlink,unlinkat,rename,renameat,renameat2,"
    "link,linkat,symlink,symlinkat"
)
_CALL = re.compile(r"^\d+ +(\w+)\((.*)$")
# With -y the folder of a relative path stands before it.
_PLACED = re.compile(r'(?:\w+<([^>]*)>, )?"((?:[^"\\]|\\.)*)"')
_CHANGES = re.compile(r"O_(WRONLY|RDWR|CREAT|TRUNC|APPEND)")
_LOCAL = ("AF_UNIX", "AF_LOCAL")  # sockets between processes of this machine
_DEVICES = ("/dev/null", "/dev/tty", "/dev/shm/", "/proc/self/", "/dev/urandom")


@dataclass(frozen=True)
class Watched:
    """What was seen.

    network: calls that could leave this machine. changed: files that were opened to be written, made or removed.
    """

    code: int
    output: str
    network: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    def outside(self, *places: Path) -> list[str]:
        """What was changed elsewhere than in these folders."""
        allowed = tuple(f"{place}/" for place in places)
        return sorted({path for path in self.changed if not f"{path}/".startswith((*allowed, *_DEVICES))})


def why_not() -> str | None:
    """Why nothing can be watched here; None: it can."""
    strace = shutil.which("strace")
    if strace is None:
        return "strace is not installed"
    tried = subprocess.run([strace, "-f", "-o", os.devnull, "true"], capture_output=True, text=True)
    return f"strace cannot trace here: {tried.stderr.strip()[:100]}" if tried.returncode else None


needs_strace = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


def watch(command: Sequence[object], cwd: Path, home: Path, temporary: Path, **variables: str) -> Watched:
    """Run a command under strace. home, temporary: folders for HOME and TMPDIR; nothing else of the user's is known."""
    environment = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    environment |= {"HOME": str(home), "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    with tempfile.NamedTemporaryFile("r", suffix=".strace", errors="replace") as log:
        strace = ["strace", "-f", "-qq", "-y", "-o", log.name, "-e", f"trace={CALLS}", "--seccomp-bpf"]
        done = subprocess.run(
            [*strace, *map(str, command)], cwd=cwd, env=environment | variables, capture_output=True, text=True
        )
        network, changed = _read(log.read().splitlines(), cwd)
    return Watched(done.returncode, done.stdout + done.stderr, network, changed)


def python(*arguments: object) -> list[object]:
    return [sys.executable, *arguments]


def _read(lines: Sequence[str], cwd: Path) -> tuple[list[str], list[str]]:
    """(calls to the network, paths that were changed), of calls that did not fail."""
    network, changed = [], []
    for line in lines:
        found = _CALL.match(line)
        if found is None:  # the end of a call that began in another line, a signal, an exit
            continue
        name, rest = found.groups()
        if name == "socket":
            network += [line] if not rest.startswith(_LOCAL) else []
        elif name in ("connect", "sendto", "bind"):
            network += [line] if "AF_INET" in rest or "AF_NETLINK" in rest else []
        elif "O_" in rest and not _CHANGES.search(rest):
            continue
        elif re.search(r"= -1 E\w+", rest) is None and name not in ("sendmsg", "recvmsg", "recvfrom", "getsockname"):
            for folder, path in _PLACED.findall(rest):
                changed.append(os.path.normpath(os.path.join(cwd, folder, path)))
    return network, changed
