"""Reading files in a folder that somebody else made: regular files in it alone, and none that is too large.

A name that leads out of the folder, a link, a pipe or a device is an error before anything of it is read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # without O_NONBLOCK, a pipe would wait for a writer


class UnreadableError(ValueError):
    """A file that is not read; the message says why, as the end of a sentence that begins with its name."""


@contextmanager
def opened(folder: Path, name: str, limit: int) -> Iterator[BinaryIO]:
    """A file of a folder, open for reading.

    name: relative, with "/" between its parts. limit: bytes.
    Errors (UnreadableError): missing, outside of the folder, no regular file, larger than the limit.
    """
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name:
        raise UnreadableError("is no path inside the folder")
    try:
        descriptor = _descend(folder, parts)
    except OSError as error:
        raise UnreadableError(_reason(folder, parts, error)) from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise UnreadableError("is no regular file")
    with os.fdopen(descriptor, "rb") as file:
        if found.st_size > limit:
            raise UnreadableError(f"has {found.st_size:,} bytes, more than the {limit:,} that are read")
        yield file


def read(folder: Path, name: str, limit: int) -> bytes:
    """What a file of a folder holds. Errors: as `opened`."""
    with opened(folder, name, limit) as file:
        try:
            content = file.read(min(limit, os.fstat(file.fileno()).st_size) + 1)
        except OSError as error:
            raise UnreadableError(f"cannot be read: {error.strerror}") from error
    if len(content) > limit:  # it grew meanwhile
        raise UnreadableError(f"has more than the {limit:,} bytes that are read")
    return content


def _descend(folder: Path, parts: tuple[str, ...]) -> int:
    """The descriptor of the file, reached without following a link below the folder."""
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            inner = os.open(part, _FOLDER, dir_fd=held)
            os.close(held)
            held = inner
        return os.open(parts[-1], _FILE, dir_fd=held)
    finally:
        os.close(held)


def _reason(folder: Path, parts: tuple[str, ...], error: OSError) -> str:
    place = folder
    for part in parts:
        place = place / part
        if os.path.islink(place):
            return "is a link: copy the files themselves (cp -rL)" if part == parts[-1] else "lies behind a link"
    return "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
