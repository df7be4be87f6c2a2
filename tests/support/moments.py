"""What a kill at any moment would leave on the disk, and disks that fail at any moment."""

from __future__ import annotations

import errno
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lsq_export.bundle import whole_directory

# Whatever changes names on the disk, or waits for it. Content is written between them, into files of temporary names.
CHANGES = ("open", "mkdir", "fsync", "replace", "rename", "unlink", "rmdir")


@contextmanager
def watched(before: Callable[[str], None], after: Callable[[str], None] = lambda name: None) -> Iterator[None]:
    """Call `before` and `after` around every change of the disk, with the name of the function."""
    busy = [False]

    def around(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if busy[0] or (name == "open" and not args[1] & os.O_CREAT):
                return function(*args, **options)
            _quietly(busy, before, name)
            result = function(*args, **options)
            _quietly(busy, after, name)
            return result

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in CHANGES:
            patch.setattr(os, name, around(name, getattr(os, name)))
        patch.setattr(whole_directory, "exchange", around("exchange", whole_directory.exchange))
        yield


def _quietly(busy: list[bool], call: Callable[[str], None], name: str) -> None:
    busy[0] = True
    try:
        call(name)
    finally:
        busy[0] = False


def moments(directory: Path, into: Path, action: Callable[[], object]) -> list[Path]:
    """Copies of a directory as it was before and after every change of the disk while `action` ran.

    Locks are not copied: to whom finds a copy, its processes are gone. Equal neighbors are one copy.
    """
    copies: list[Path] = []
    last: list[dict[Path, object]] = [{}]

    def copy(name: str) -> None:
        now = _state(directory)
        if now != last[0]:
            last[0] = now
            copies.append(into / f"{len(copies):03}-{name}")
            shutil.copytree(directory, copies[-1], symlinks=True)

    with watched(copy, copy):
        action()
    return copies


def _state(directory: Path) -> dict[Path, object]:
    """{path: what it is, and its content}."""
    paths = sorted(directory.rglob("*"))
    return {path: os.readlink(path) if path.is_symlink() else path.is_dir() or path.read_bytes() for path in paths}


@contextmanager
def full_disk(call: int, number: int = errno.ENOSPC) -> Iterator[list[str]]:
    """From its n-th change on the disk takes nothing more, but lets files be removed; the names of the changes."""
    seen: list[str] = []

    def fail(name: str) -> None:
        if name in ("unlink", "rmdir"):
            return
        seen.append(name)
        if len(seen) >= call:
            raise OSError(number, os.strerror(number))

    with watched(fail):
        yield seen


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file can grow beyond that many bytes: a write fails in the middle, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
