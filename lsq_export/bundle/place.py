"""Where a bundle may be written: nothing that a user has is overwritten, and what a kill left there is put right first.

A bundle may be replaced, but only what bundles wrote (`ours.py`), as it was written.
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
from .layout import SUMS
from .ours import edited, foreign, is_cache, is_ours, names_written
from .records import sweep_records

_SHOWN = 3  # names in a message


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
    if not is_ours(target):
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
    for names, why in ((foreign(target), "which no bundle wrote"), (edited(target), "changed since its export")):
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            raise QuantizationError(
                f"the output directory {out} also holds {', '.join(names[:_SHOWN])}{more}, {why}, so it is not "
                "replaced: move that elsewhere, or give another directory"
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
    known = names_written(directory)
    if not known:
        shutil.rmtree(directory)
        return
    folders_known = {parent for name in known for parent in Path(name).parents}
    for root, folders, names in os.walk(directory, topdown=False):
        for path in (Path(root, name).relative_to(directory) for name in (*names, *folders)):
            at = directory / path
            if not at.is_dir() or at.is_symlink():
                if str(path) in known - {SUMS} or is_cache(str(path)):
                    at.unlink()
            elif (path in folders_known or is_cache(str(path))) and not any(at.iterdir()):
                at.rmdir()
    if os.listdir(directory) in ([], [SUMS]):
        shutil.rmtree(directory)
