"""A bundle in an empty folder that has to stay the same folder: the current one, say, or one that is mounted.

The files come into being in a temporary folder inside. Then they move up, manifest.json last: without it the folder is
no bundle. A kill on the way leaves parts of a bundle, which the next start takes away by their sums.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from calib.errors import QuantizationError
from lsq_export.files import temporary
from lsq_export.files.atomic import sync
from lsq_export.files.digest import sha256

from .layout import MANIFEST, SUMS
from .sums import read_sums

_INSIDE = "lsq-export-in-place"  # the temporary folder is named after this


def has_to_stay(target: Path) -> bool:
    """Whether an empty folder must not be replaced by another one."""
    return target.is_dir() and (
        is_current(target) or target.is_mount() or not os.access(target.parent, os.W_OK | os.X_OK)
    )


def is_current(target: Path) -> bool:
    """Whether the current folder is this one or in it."""
    try:
        return Path.cwd().is_relative_to(target)
    except OSError:  # it is gone
        return False


def is_empty(target: Path) -> bool:
    """Whether nothing is in the folder but bundles that come into being."""
    return set(target.iterdir()) <= set(temporary.leftovers(target / _INSIDE))


@contextmanager
def staging(target: Path) -> Iterator[Path]:
    """A temporary folder in `target`; what is still in it at the end goes, with what had moved up."""
    with temporary.new_folder(target / _INSIDE, lambda folder: _undo(target, folder)) as folder:
        yield folder


def move_up(folder: Path, target: Path) -> None:
    """From the temporary folder into `target`. Errors: an OSError is raised as it is."""
    last = (SUMS, MANIFEST)
    for name in (*sorted(name for name in os.listdir(folder) if name not in last), *last):
        os.rename(folder / name, target / name)
    sync(target)


def put_right(target: Path) -> None:
    """Take away what a killed export left in a folder."""
    temporary.sweep(target / _INSIDE, lambda folder: _undo(target, folder))


def _undo(target: Path, folder: Path) -> None:
    """Remove the temporary folder and, unless all has moved up, what did: files that have the digests of its sums."""
    if not (target / MANIFEST).exists():
        for name, digests in _sums_of(folder, target).items():
            file = target / name
            if file.is_file() and not file.is_symlink() and sha256(file) in digests:
                file.unlink()
                _remove_empty(file.parent, target)
        if not any(path != folder and path.name != SUMS for path in target.iterdir()):
            (target / SUMS).unlink(missing_ok=True)
    shutil.rmtree(folder)


def _sums_of(*folders: Path) -> dict[str, tuple[str, ...]]:
    for folder in folders:
        try:
            return read_sums(folder)
        except QuantizationError:
            pass
    return {}


def _remove_empty(folder: Path, end: Path) -> None:
    """Remove a folder and those above it, up to `end`, as far as they are empty."""
    while folder != end and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
