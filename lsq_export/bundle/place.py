"""Where a bundle may be written: nothing that a user has is overwritten, and what a kill left there is put right first.

A bundle may be replaced, but only what bundles wrote: the files that its SHA256SUMS lists, and its records.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from calib.errors import QuantizationError
from lsq_export.files import temporary

from . import in_place
from .layout import MANIFEST, SUMS
from .records import sweep_records
from .sums import RECORDS, read_sums

_SHOWN = 3  # names in a message
_CACHE = "__pycache__"  # of run.py, where somebody imported it


def resolved(out: str | os.PathLike[str]) -> Path:
    """The folder itself: links followed, no `..` in it.

    Errors (QuantizationError): links in a circle, a path that no file system takes, a current folder that is gone.
    """
    try:
        target = Path(os.path.realpath(out))
        circle = target.is_symlink()
    except (OSError, ValueError) as error:
        raise QuantizationError(f"the output directory {str(out)!r} cannot be used ({error}): give another") from error
    if circle:
        raise QuantizationError(f"the output directory {out} is a link that leads to itself: give another")
    return target


def check_target(out: str | os.PathLike[str], *, force: bool, keep: Iterable[str | os.PathLike[str]] = ()) -> None:
    """Whether a bundle can be written there; what killed processes left there is put right first.

    force: it may replace a bundle. keep: files that are still needed, which must not be in what is replaced.
    Errors (QuantizationError): see `whole_directory.new_directory`.
    """
    target = resolved(out)
    with errors(out, "used"):
        put_right(target)
        if not target.exists():
            return _check_parent(out, next(parent for parent in target.parents if parent.exists()))
        if not target.is_dir():
            raise QuantizationError(f"the output {out} is a file: give a directory")
        if in_place.is_empty(target):
            return None
        if not force:
            raise QuantizationError(
                f"the output directory {out} is not empty: give another, or force=True to replace it"
            )
        return _check_bundle(out, target, [Path(os.path.realpath(path)) for path in keep])


@contextmanager
def errors(out: str | os.PathLike[str], what: str) -> Iterator[None]:
    """An OSError in one line. what: could not be done."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise QuantizationError(f"the output directory {out} cannot be {what}: {reason}; give another") from error


def _check_parent(out: str | os.PathLike[str], parent: Path) -> None:
    """Whether a folder can be made in one that is there. Errors (QuantizationError)."""
    if not (parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)):
        problem = "is not writable" if parent.is_dir() else "is a file"
        raise QuantizationError(f"the output directory {out} cannot be written: {parent} {problem}")


def _check_bundle(out: str | os.PathLike[str], target: Path, keep: Iterable[Path]) -> None:
    """Whether a folder that is not empty may go. Errors (QuantizationError)."""
    known = _written(target)
    if MANIFEST not in known:
        raise QuantizationError(
            f"the output directory {out} is not empty and holds no bundle, so it is not replaced: empty it "
            "yourself, or give another"
        )
    for path in keep:
        if path.is_relative_to(target):
            raise QuantizationError(
                f"the output directory {out} is not replaced, since {path.relative_to(target)} in it is needed: move "
                "it elsewhere, or give another directory"
            )
    sweep_records(target)
    if others := foreign(target):
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        raise QuantizationError(
            f"the output directory {out} also holds {', '.join(others[:_SHOWN])}{more}, which no bundle wrote, so it "
            "is not replaced: move that elsewhere, or give another directory"
        )
    if in_place.is_current(target):
        raise QuantizationError(
            f"the output directory {out} holds the current folder, which would vanish: run this from another folder"
        )


def put_right(target: Path) -> None:
    """Take away what killed exports left of a folder and beside it; an old bundle that had to make room comes back."""
    in_place.put_right(target)
    for old in temporary.leftovers(target, temporary.OLD):
        with temporary.claimed(old) as ours:
            if ours and not os.path.lexists(target):
                os.replace(old, target)
            elif ours:
                remove(old)
    temporary.sweep(target, remove)


def remove_bundle(out: Path) -> None:
    """Remove a bundle, if there is one; a link that leads to it stays. Errors: an OSError is raised as it is."""
    if resolved(out).is_dir():
        remove(resolved(out))


def remove(directory: Path) -> None:
    """Take away a bundle, or what there is of a new one. What no bundle wrote stays, and its folders.

    A folder without sums is one of our own that was never finished, or nearly gone. The sums go last.
    Errors: an OSError is raised as it is.
    """
    known = _written(directory)
    if not known:
        shutil.rmtree(directory)
        return
    for root, folders, names in os.walk(directory, topdown=False):
        for name in (*names, *folders):
            path = Path(root, name)
            if path.is_dir() and not path.is_symlink():
                _remove_folder(path)
            elif str(path.relative_to(directory)) in known - {SUMS}:
                path.unlink()
    if os.listdir(directory) in ([], [SUMS]):
        shutil.rmtree(directory)


def _remove_folder(path: Path) -> None:
    """If it is empty, or what Python made."""
    if path.name == _CACHE:
        shutil.rmtree(path)
    elif not any(path.iterdir()):
        path.rmdir()


def foreign(directory: Path) -> list[str]:
    """Files and links in the folder of a bundle that no bundle wrote, in order; none where there is no bundle."""
    known, found = _written(directory), list[str]()
    if not known:
        return []
    for root, folders, names in os.walk(directory):
        links = [name for name in folders if Path(root, name).is_symlink()]
        found += [str(Path(root, name).relative_to(directory)) for name in (*names, *links)]
        folders[:] = [name for name in folders if name != _CACHE]
    return sorted(name for name in found if name not in known)


def _written(directory: Path) -> set[str]:
    """Names that a bundle wrote; none where there is no bundle."""
    try:
        return {*read_sums(directory), *RECORDS, SUMS}
    except QuantizationError:
        return set()
