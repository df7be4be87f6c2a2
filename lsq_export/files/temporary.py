"""Temporary files and folders beside what they will replace: made by us alone, locked while they are written, and
swept later if the process that made them is gone.

    .r18.safetensors.3f9c0a1be2d47a55.tmp        of r18.safetensors
    .out.3f9c0a1be2d47a55.tmp/                   of the folder out
    .out.3f9c0a1be2d47a55.old/                   a folder that makes room for a new one, for as long as that takes

The name cannot be guessed, nothing that is there already is taken, and links are not followed. The lock is the kernel's
(flock): it ends with its process, also when that is killed.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TEMPORARY, OLD = "tmp", "old"
_TOKEN = 8  # bytes
_LONGEST = 200  # bytes of a name that still has room for a token; file systems take 255
_TRIES = 100
_PAUSE = 0.02  # seconds between looks at a lock


def name_beside(path: Path, kind: str = TEMPORARY) -> Path:
    """A new name beside a file or folder. kind: "tmp" or "old"."""
    return path.with_name(f".{_stem(path)}.{secrets.token_hex(_TOKEN)}.{kind}")


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """An empty temporary file beside `path`, with the mode of the umask; it vanishes at the end unless it was moved."""
    yield from _made(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, lambda temporary: temporary.unlink(missing_ok=True))


@contextmanager
def new_folder(path: Path, remove: Callable[[Path], object]) -> Iterator[Path]:
    """An empty temporary folder beside `path`, with the mode of the umask; at the end, `remove` takes it away."""
    yield from _made(path, os.O_RDONLY | os.O_DIRECTORY, remove)


def _made(path: Path, flags: int, remove: Callable[[Path], object]) -> Iterator[Path]:
    temporary, descriptor = _make(path, flags)
    try:
        yield temporary
    finally:
        try:
            remove(temporary)
        except OSError:
            pass  # of a disk that takes no changes; the next start sweeps it
        finally:
            os.close(descriptor)


def _make(path: Path, flags: int) -> tuple[Path, int]:
    """Errors: an OSError is raised as it is."""
    for _ in range(_TRIES):
        temporary = name_beside(path)
        if flags & os.O_DIRECTORY:
            os.mkdir(temporary)
        descriptor = os.open(temporary, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        if _lock(descriptor, fcntl.LOCK_EX) is not False and _is_at(descriptor, temporary):
            return temporary, descriptor
        os.close(descriptor)  # a sweep of another process came in between
    raise OSError(errno.EAGAIN, "temporary files vanish while they are made", str(path))


def sweep(path: Path, remove: Callable[[Path], object] = shutil.rmtree) -> None:
    """Remove the temporaries of this file or folder whose process is gone. What cannot be removed is left.

    remove: takes away a folder.
    """
    for left in leftovers(path):
        with claimed(left) as ours, suppress(OSError):
            if ours and left.is_dir():
                remove(left)
            elif ours:
                left.unlink()


def leftovers(path: Path, kind: str = TEMPORARY) -> list[Path]:
    """The temporaries of a file or folder that lie beside it, in use or not."""
    pattern = re.compile(rf"\.{re.escape(_stem(path))}\.[0-9a-f]{{{2 * _TOKEN}}}\.{kind}")
    try:
        return sorted(path.with_name(name) for name in os.listdir(path.parent) if pattern.fullmatch(name))
    except OSError:
        return []


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Lock a file or folder for the block, if nobody holds it; whether that worked. It does not for links."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        yield _lock(descriptor, fcntl.LOCK_EX) is True and _is_at(descriptor, path)
    finally:
        os.close(descriptor)


@contextmanager
def locked(folder: Path, *, shared: bool = False, seconds: float = 30) -> Iterator[bool]:
    """Wait for the lock of a folder and hold it for the block; whether it was had.

    It is not after `seconds`, and where the folder cannot be opened or its file system has no locks.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        end = time.monotonic() + seconds
        while (got := _lock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)) is False:
            if time.monotonic() > end:
                break
            time.sleep(_PAUSE)
        yield got is True
    finally:
        os.close(descriptor)


def _lock(descriptor: int, kind: int) -> bool | None:
    """Whether the lock was had; None: the file system has none."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except OSError:
        return False


def _stem(path: Path) -> str:
    name = path.name or "root"
    return name if len(os.fsencode(name)) <= _LONGEST else hashlib.sha256(os.fsencode(name)).hexdigest()
