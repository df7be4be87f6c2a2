"""SHA256SUMS: the sums of all files of a bundle, in the form that `sha256sum -c` reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from calib.errors import QuantizationError
from lsq_export.files.digest import sha256
from lsq_export.files.text import write_text

from .directory import FOLDED, MANIFEST, README, RUN, SUMS, TRAINED, Bundle


def write_sums(directory: Path) -> None:
    """Write the sums of every other file."""
    names = (str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file() and p.name != SUMS)
    _write(directory, {name: sha256(directory / name) for name in names})


def update_sums(directory: Path, *names: str) -> None:
    """New sums for files that were written anew; every other line stays, so that a change elsewhere still shows."""
    _write(directory, _read(directory) | {name: sha256(directory / name) for name in names})


def changed_files(bundle: Bundle) -> list[str]:
    """Files that differ from SHA256SUMS or are missing, relative to the bundle; empty if all is as exported.

    Errors (QuantizationError): sums that cannot be read.
    """
    directory, sums = bundle.directory, _read(bundle.directory)
    models = (str(path.relative_to(directory)) for path in bundle.models.values())
    sample = bundle.manifest.get("sample")  # bundles of older versions have none, and nothing to run it
    run = (README, RUN, sample["file"], sample["output"]) if sample else ()
    unlisted = [name for name in (MANIFEST, str(TRAINED), str(FOLDED), *models, *run) if name not in sums]
    return unlisted + [
        name for name, digest in sums.items() if not (directory / name).is_file() or sha256(directory / name) != digest
    ]


def _read(directory: Path) -> dict[str, str]:
    """{file: digest}."""
    try:
        lines = (directory / SUMS).read_text(encoding="utf-8").splitlines()
        return {name: digest for digest, name in (line.split("  ", 1) for line in lines if line)}
    except (OSError, ValueError) as error:
        raise QuantizationError(f"bundle {directory} has no readable {SUMS}; export it again") from error


def _write(directory: Path, sums: Mapping[str, str]) -> None:
    write_text(directory / SUMS, "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)))
