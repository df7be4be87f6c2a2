"""SHA256SUMS: the sums of all files of a bundle, in the form that `sha256sum -c` reads.

A file that changes after the export has two lines while it does (`records.py`): either digest is right.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lsq_export.files import temporary
from lsq_export.files.digest import sha256
from lsq_export.files.text import write_text

from .layout import FOLDED, MANIFEST, README, RUN, SUMS, TRAINED
from .layout import RECORDS as RECORDS
from .ours import foreign, unlisted
from .reading import Files
from .reading import read_sums as read_sums
from .reading import with_digest as with_digest

if TYPE_CHECKING:
    from .directory import Bundle

Sums = Mapping[str, tuple[str, ...]]  # {file: its digests}, more than one only of RECORDS


def write_sums(directory: Path) -> None:
    """Write the sums of every other file."""
    names = (str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file() and p.name != SUMS)
    replace_sums(directory, {name: (sha256(directory / name),) for name in names})


def update_sums(directory: Path, *names: str) -> None:
    """New sums for files that were written anew; every other line stays, so that a change elsewhere still shows."""
    with temporary.locked(directory):
        replace_sums(directory, {**read_sums(directory), **{name: (sha256(directory / name),) for name in names}})


def changed_files(bundle: Bundle) -> list[str]:
    """Files that differ from SHA256SUMS, are missing, or that an export wrote and no sum lists, relative to the bundle.

    Empty if all is as exported.

    Links, pipes and devices differ, whatever they lead to. Errors (DamagedError): sums that cannot be read.
    """
    directory = bundle.directory
    with temporary.locked(directory, shared=True):  # not between two writes of another process
        files = Files(directory)
        models = (str(path.relative_to(directory)) for path in bundle.models.values())
        sample = bundle.manifest.get("sample")  # bundles of older versions have none, and nothing to run it
        run = (README, RUN, *(sample[key] for key in ("file", "input", "output") if key in sample)) if sample else ()
        needed = [name for name in (MANIFEST, str(TRAINED), str(FOLDED), *models, *run) if name not in files.sums]
        return [*needed, *(name for name in unlisted(directory) if name not in needed), *files.changed()]


def strange_files(bundle: Bundle) -> list[str]:
    """Files, links and empty folders beside those of the bundle, in order: no sum lists them, nothing checks them."""
    known = {*read_sums(bundle.directory), *unlisted(bundle.directory)}
    return [name for name in foreign(bundle.directory) if name not in known]


def replace_sums(directory: Path, sums: Sums) -> None:
    """Write the file anew. Errors (QuantizationError): it cannot be written."""
    lines = (f"{digest}  {name}\n" for name in sorted(sums) for digest in sums[name])
    write_text(directory / SUMS, "".join(lines), follow=False)
