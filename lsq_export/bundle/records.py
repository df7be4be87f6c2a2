"""Writing into a bundle that is there: what verification found, RECORDS, which changes after the export.

While that happens, SHA256SUMS has two lines for such a file, the sum that it had and the one that it will have; either
is right. So each file is at every moment one that SHA256SUMS names, and a kill between two writes makes no bundle look
damaged.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from hashlib import sha256 as sha256_of
from pathlib import Path

from calib.errors import QuantizationError
from lsq_export.files import temporary
from lsq_export.files.digest import sha256
from lsq_export.files.text import write_text

from .layout import SUMS
from .sums import RECORDS, Sums, read_sums, replace_sums, with_digest


def write_records(directory: Path, files: Mapping[str, str]) -> None:
    """Write some of RECORDS with their sums. files: {name: text}. Links are not followed.

    Errors (QuantizationError): sums that cannot be read, a file that cannot be written. Each file is whole then, and
    what SHA256SUMS says.
    """
    with temporary.locked(directory):
        before = read_sums(directory)
        after = {name: sha256_of(text.encode()).hexdigest() for name, text in files.items()}
        # A file that has no line yet gets it when it is there: until then nobody misses it.
        replace_sums(directory, {name: with_digest(digests, after.get(name)) for name, digests in before.items()})
        for name, text in files.items():
            write_text(directory / name, text, follow=False)
        replace_sums(directory, {**_settled(directory, before), **{name: (digest,) for name, digest in after.items()}})


def sweep_records(directory: Path) -> None:
    """Put away the temporary files that killed processes left beside the records."""
    for name in (*RECORDS, SUMS):
        temporary.sweep(directory / name)


def unsettled(directory: Path) -> bool:
    """Whether a process was killed while it wrote records. Errors (QuantizationError): sums that cannot be read."""
    return any(len(digests) > 1 for digests in read_sums(directory).values())


def _settled(directory: Path, sums: Sums) -> dict[str, tuple[str, ...]]:
    """Of several digests the one that the file has; a file that has none of them is damaged, and stays so."""
    settled = {}
    for name, digests in sums.items():
        found = sha256(directory / name) if len(digests) > 1 and (directory / name).is_file() else None
        settled[name] = (found,) if found in digests else digests
    return settled


def write_output(path: Path, text: str) -> None:
    """Write a file that a user named, links followed; with its sum, where that is a record in a bundle.

    Errors (QuantizationError): as `check_output`; it cannot be written.
    """
    check_output(path)
    place = Path(os.path.realpath(path))
    if place.name in RECORDS and (place.parent / SUMS).is_file():
        write_records(place.parent, {place.name: text})
    else:
        write_text(path, text)


def check_output(path: Path) -> None:
    """Errors (QuantizationError): a file that SHA256SUMS of its bundle lists, and no record."""
    place = Path(os.path.realpath(path))
    for parent in place.parents:
        if not (parent / SUMS).is_file():
            continue
        try:
            listed = {*read_sums(parent), SUMS}
        except QuantizationError:  # no bundle
            continue
        name = str(place.relative_to(parent))
        if name in listed and name not in RECORDS:
            raise QuantizationError(f"{path} is a file of the bundle {parent}: give another name")
