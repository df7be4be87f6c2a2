"""files.temporary: temporaries are made by us alone, and swept when nobody writes them any more."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lsq_export.files import temporary
from lsq_export.files.temporary import claimed, leftovers, locked, name_beside, new_file, new_folder, sweep


def test_names_cannot_be_guessed(tmp_path: Path) -> None:
    names = {name_beside(tmp_path / "a.txt").name for _ in range(100)}
    assert len(names) == 100 and all(re.fullmatch(r"\.a\.txt\.[0-9a-f]{16}\.tmp", name) for name in names)


def test_a_long_name_has_a_temporary_too(tmp_path: Path) -> None:
    path = tmp_path / ("ü" * 127)
    with new_file(path) as made:
        assert leftovers(path) == [made] and leftovers(tmp_path / "a") == []


def test_what_is_there_is_neither_taken_nor_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if somebody guessed the name: a link, a file, a folder."""
    (tmp_path / "mine").write_text("mine")
    planted = [tmp_path / f".a.{token}.tmp" for token in ("0" * 16, "1" * 16, "2" * 16)]
    planted[0].symlink_to("mine")
    planted[1].write_text("theirs")
    planted[2].mkdir()
    for number in range(3):
        monkeypatch.setattr(secrets, "token_hex", lambda count, number=number: str(number) * 16)
        with pytest.raises(FileExistsError), new_file(tmp_path / "a"):
            pass
        with pytest.raises(FileExistsError), new_folder(tmp_path / "a", Path.rmdir):
            pass
    assert (tmp_path / "mine").read_text() == "mine" and planted[1].read_text() == "theirs"


@pytest.fixture
def _umask() -> Iterator[None]:
    old = os.umask(0o027)
    yield
    os.umask(old)


@pytest.mark.usefixtures("_umask")
def test_the_mode_is_that_of_the_umask(tmp_path: Path) -> None:
    with new_file(tmp_path / "a") as file, new_folder(tmp_path / "b", Path.rmdir) as folder:
        assert stat.S_IMODE(file.stat().st_mode) == 0o640 and stat.S_IMODE(folder.stat().st_mode) == 0o750


def test_what_is_in_use_is_not_swept(tmp_path: Path) -> None:
    with new_file(tmp_path / "a") as file, new_folder(tmp_path / "a", Path.rmdir) as folder:
        sweep(tmp_path / "a")
        assert file.exists() and folder.exists() and leftovers(tmp_path / "a") == sorted([file, folder])
        with claimed(file) as ours:
            assert not ours
    assert list(tmp_path.iterdir()) == []


def test_what_nobody_writes_any_more_is_swept(tmp_path: Path) -> None:
    """A killed process leaves them without a lock (tests/kills kills real ones)."""
    for digit in "02":
        (tmp_path / f".a.{digit * 16}.tmp").write_text("ha")
    (tmp_path / f".a.{'1' * 16}.tmp").mkdir()
    (tmp_path / f".a.{'1' * 16}.tmp" / "half").write_text("ha")
    sweep(tmp_path / "b")
    assert len(leftovers(tmp_path / "a")) == 3
    sweep(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_what_only_looks_like_a_temporary_is_left(tmp_path: Path) -> None:
    """Of a user: a date, a number, another length."""
    for name in (".a.20240101.tmp", ".a.5.old", ".a.12.tmp", f".a.{'0' * 15}.tmp", f".a.{'G' * 16}.tmp"):
        (tmp_path / name).write_text("mine")
    sweep(tmp_path / "a")
    assert len(list(tmp_path.iterdir())) == 5 and leftovers(tmp_path / "a", "old") == []


def test_links_and_pipes_of_such_a_name_are_left(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / f".a.{'0' * 16}.tmp").symlink_to("mine")
    (tmp_path / f".a.{'1' * 16}.tmp").symlink_to(tmp_path)
    os.mkfifo(tmp_path / f".b.{'1' * 16}.tmp")
    for name in ("a", "b"):
        sweep(tmp_path / name)
    assert (tmp_path / "mine").read_text() == "mine" and len(leftovers(tmp_path / "a")) == 2


def test_without_locks_nothing_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows then whether somebody still writes."""

    def no_locks(*args: Any) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    left = tmp_path / f".a.{'0' * 16}.tmp"
    left.write_text("")
    sweep(tmp_path / "a")
    assert left.exists()
    with new_file(tmp_path / "a") as made, locked(tmp_path) as had:
        assert made.exists() and not had


def test_the_lock_of_a_folder_is_shared_by_readers_alone(tmp_path: Path) -> None:
    with locked(tmp_path, shared=True) as first, locked(tmp_path, shared=True) as second:
        assert first and second
        with locked(tmp_path, seconds=0.01) as third:
            assert not third
    with locked(tmp_path) as alone, locked(tmp_path, shared=True, seconds=0.01) as reader:
        assert alone and not reader
    with locked(tmp_path / "nowhere") as had:
        assert not had


def test_a_sweep_between_making_and_locking_makes_it_try_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, calls = temporary._lock, []

    def swept_first(descriptor: int, kind: int) -> bool | None:
        calls.append(descriptor)
        if len(calls) == 1:
            for path in leftovers(tmp_path / "a"):
                path.unlink()
        return lock(descriptor, kind)

    monkeypatch.setattr(temporary, "_lock", swept_first)
    with new_file(tmp_path / "a") as made:
        assert made.exists() and len(calls) == 2
    monkeypatch.setattr(temporary, "_lock", lambda descriptor, kind: False)
    with pytest.raises(OSError, match="vanish while they are made"), new_file(tmp_path / "a"):
        pass
