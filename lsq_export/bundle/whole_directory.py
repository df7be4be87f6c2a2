"""A directory that appears whole or not at all, and nothing that a user has is overwritten unasked."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from calib.errors import QuantizationError

from .directory import MANIFEST
from .sums import write_sums


@contextmanager
def new_directory(out: str | os.PathLike[str], *, force: bool) -> Iterator[Path]:
    """A temporary directory beside `out` that takes its place when the block ends well, and vanishes when it does not.

    Its sums are written at the end of the block. force: replace the bundle that is in `out`.
    Errors (QuantizationError): `out` is a file, or not empty without force, or holds something that is no bundle, or
    cannot be written.
    """
    target = Path(out)
    check_target(target, force=force)
    temporary = _temporary_beside(target)
    try:
        yield temporary
        write_sums(temporary)
        check_target(target, force=force)
        try:
            _swap(temporary, target)
        except OSError as error:
            raise QuantizationError(
                f"the output directory {target} cannot be replaced: {error.strerror}; give another"
            ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary_beside(target: Path) -> Path:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        temporary.chmod(0o755)
    except OSError as error:
        raise QuantizationError(f"the output directory {target} cannot be written: {error.strerror}") from error
    return temporary


def check_target(target: Path, *, force: bool) -> None:
    """Whether a directory can be written there. force: it may replace a bundle. Errors: see `new_directory`."""
    if not target.exists():
        parent = next(parent for parent in target.absolute().parents if parent.exists())
        if not (parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)):
            problem = "is not writable" if parent.is_dir() else "is a file"
            raise QuantizationError(f"the output directory {target} cannot be written: {parent} {problem}")
        return
    if not target.is_dir():
        raise QuantizationError(f"the output {target} is a file: give a directory")
    if not any(target.iterdir()):
        return
    if not force:
        raise QuantizationError(
            f"the output directory {target} is not empty: give another, or use --force (force=True) to replace it"
        )
    if not (target / MANIFEST).is_file():
        raise QuantizationError(
            f"the output directory {target} is not empty and holds no bundle, so it is not replaced: empty it "
            "yourself, or give another"
        )


def _swap(new: Path, target: Path) -> None:
    """`new` takes the place of `target`; what was there comes back if that fails."""
    if not target.exists():
        os.replace(new, target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
    try:
        os.replace(target, old / "bundle")
    except BaseException:
        old.rmdir()
        raise
    try:
        os.replace(new, target)
    except BaseException:
        os.replace(old / "bundle", target)
        old.rmdir()
        raise
    shutil.rmtree(old, ignore_errors=True)
