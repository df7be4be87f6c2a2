"""Files that appear whole or not at all, also when the process is killed or the power fails on the way."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import temporary as temporaries

_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EACCES, errno.EPERM)  # folders, on some file systems


@contextmanager
def replacing(path: Path, *, follow: bool = True) -> Iterator[Path]:
    """Give a temporary file beside `path` to write to, which takes its place at the end of the block.

    What killed processes left there is swept first. A link stays a link, and the file that it points to is replaced;
    follow=False replaces the link itself: for names that come from elsewhere, which may point anywhere. What is neither
    file nor folder, and what lies in /dev, is written to as it is.
    Errors: an OSError of the replacement is raised as it is.
    """
    if follow and _is_device(path):
        yield path
        return
    place = Path(os.path.realpath(path)) if follow else path
    temporaries.sweep(place)
    with temporaries.new_file(place) as temporary:
        yield temporary
        sync(temporary)  # otherwise the new name may reach the disk before the content
        os.replace(temporary, place)
        sync(place.parent)


def check(path: Path) -> None:
    """Whether a file can come into being there: its temporary one can. Errors: an OSError is raised as it is."""
    if not _is_device(path):
        with temporaries.new_file(Path(os.path.realpath(path))):
            pass


def _is_device(path: Path) -> bool:
    """Whether it is a device or a pipe, or the name of one, as /dev/stdout, which may be a file just now."""
    _, *above = path.absolute().parts
    named = above[:1] == ["dev"] and above[1:2] != ["shm"]
    return path.exists() and (named or not (path.is_file() or path.is_dir()))


def sweep(path: Path) -> None:
    """Remove the temporary files that killed processes left beside this one."""
    temporaries.sweep(Path(os.path.realpath(path)))


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk. Errors: an OSError is raised as it is."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        return  # a folder that may be written but not read
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """`sync` for every file and folder in a folder, and for itself."""
    for root, _, names in os.walk(folder):
        for name in names:
            sync(Path(root, name))
        sync(Path(root))
