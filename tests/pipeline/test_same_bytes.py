"""The same work gives the same bytes: for other users, in other folders, with other hash seeds and threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.exported import Exported, content

ROOT = Path(__file__).parents[2]
TRAIN = ("train", "--model", "tiny", "--data", "digits", "--image-size", "16", "--float-epochs", "1", "--epochs", "1")
TIMES = ("seconds", "time", "images_per_second")  # in a log, what a clock said


@dataclass(frozen=True)
class User:
    """Somebody with a folder, a home and a temporary folder of their own."""

    place: Path
    variables: Mapping[str, str]

    def run(self, *arguments: object) -> None:
        """lsq-export …, in a fresh process."""
        folders = {"HOME": self.place / "home", "TMPDIR": self.place / "temporary"}
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
        known = {"PYTHONPATH": os.pathsep.join((str(ROOT), *filter(None, sys.path[1:])))}
        environment = {**kept, **known, **{name: str(path) for name, path in folders.items()}, **self.variables}
        done = subprocess.run(
            [sys.executable, "-m", "lsq_export", *map(str, arguments)],
            cwd=self.place,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr


@pytest.fixture
def users(tmp_path: Path) -> tuple[User, User]:
    one = {"PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1", "LANG": "C", "TZ": "UTC", "USER": "one"}
    two = {"PYTHONHASHSEED": "4711", "OMP_NUM_THREADS": "2", "LANG": "C.UTF-8", "TZ": "Asia/Tokyo", "USER": "somebody"}
    return User(tmp_path / "a", one), User(tmp_path / "somewhere" / "else", two)


@pytest.mark.slow
def test_two_exports_are_the_same_bytes(exported: Exported, users: tuple[User, User]) -> None:
    checkpoint = exported.checkpoint.read_bytes()
    for user, threads in zip(users, (1, 2), strict=True):
        user.place.mkdir(parents=True)
        (user.place / "t.safetensors").write_bytes(checkpoint)
        user.run("export", "t.safetensors", "--out", "out", "--threads", threads)
        user.run("verify", "out", "--threads", threads)
    first, second = (content(user.place / "out") for user in users)
    assert first.keys() == second.keys() and len(first) > 10
    assert [name for name in first if first[name] != second[name]] == []


@pytest.mark.slow
def test_two_trainings_are_the_same_files(users: tuple[User, User]) -> None:
    """With equal numbers of threads, on which the last bits depend."""
    for user in users:
        user.place.mkdir(parents=True)
        out = ("--out", "t.safetensors", "--float-out", "f.safetensors", "--curve", "t.svg")
        user.run(*TRAIN, "--seed", "3", "--threads", "1", "--device", "cpu", *out)
    for name in ("t.safetensors", "f.safetensors", "t.svg"):
        first, second = ((user.place / name).read_bytes() for user in users)
        assert first == second, name
    logs = [[timeless(line) for line in (user.place / "t.jsonl").read_text().splitlines()] for user in users]
    assert logs[0] == logs[1] and len(logs[0]) == 2


def timeless(line: str) -> dict[str, Any]:
    return {name: value for name, value in json.loads(line).items() if name not in TIMES}
