"""A directory that appears whole or not at all, and nothing that a user has is overwritten unasked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from calib.errors import QuantizationError
from lsq_export.files import temporary
from lsq_export.files.atomic import sync, sync_tree
from lsq_export.files.exchange import exchange

from . import in_place
from .ours import foreign
from .place import check_target, errors, remove, resolved
from .sums import write_sums


@contextmanager
def new_directory(out: str | os.PathLike[str], *, force: bool) -> Iterator[Path]:
    """A temporary directory beside `out` that takes its place when the block ends well, and vanishes when it does not.

    Its sums are written at the end of the block. force: replace the bundle that is in `out`. A link stays a link: the
    directory that it points to is replaced.
    Errors (QuantizationError): `out` is a file, or not empty without force, or holds something that no bundle wrote, or
    cannot be written.
    """
    check_target(out, force=force)
    target = resolved(out)  # once: a path may lead through what is replaced
    with ExitStack() as stack:
        with errors(out, "written"):
            stack.enter_context(_parents(target))
            directory = stack.enter_context(_staging(target))
        yield directory
        with errors(out, "written"):
            write_sums(directory)
            sync_tree(directory)
        check_target(target, force=force)
        with errors(out, "replaced"):
            _place(directory, target)


@contextmanager
def _parents(target: Path) -> Iterator[None]:
    """Make the folders above `target`; those that were made go again if the block fails."""
    made = [parent for parent in target.parents if not parent.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for parent in made:
            try:
                parent.rmdir()
            except OSError:
                break
        raise


@contextmanager
def _staging(target: Path) -> Iterator[Path]:
    if in_place.has_to_stay(target):
        with in_place.staging(target) as directory:
            yield directory
    else:
        with temporary.new_folder(target, remove) as directory:
            yield directory


def _place(new: Path, target: Path) -> None:
    """`new` takes the place of `target`. What was there is then where `new` was, or gone."""
    if new.parent == target:
        in_place.move_up(new, target)
    elif not target.exists() or not any(target.iterdir()):
        os.replace(new, target)  # of an empty folder, too
    elif not exchange(new, target):
        _in_two_steps(new, target)
    sync(target.parent)
    if new.exists() and (others := foreign(new)):
        raise QuantizationError(
            f"{target} is replaced, but {', '.join(others)} came into the old bundle meanwhile: now in {new}"
        )


def _in_two_steps(new: Path, target: Path) -> None:
    """Where names cannot change places: what was there comes back if the second step fails, and after a kill."""
    old = temporary.name_beside(target, temporary.OLD)
    with temporary.claimed(target):  # so that nobody else puts it back meanwhile
        os.replace(target, old)
        try:
            os.replace(new, target)
        except BaseException as error:
            try:
                os.replace(old, target)
            except OSError as again:
                raise QuantizationError(
                    f"{target} cannot be replaced ({error}), nor the old bundle put back ({again.strerror}): it is in "
                    f"{old}; the next export puts it back, or move it yourself"
                ) from error
            raise
        os.replace(old, new)  # where it is removed
