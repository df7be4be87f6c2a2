"""A bundle: the directory that is handed over.

<format>/model.onnx                            the network
<format>/test_data_set_0/{input,output}_0.pb   golden vectors, in ONNX's own convention (golden.py)
sample/                                        one sample and the output that belongs to it (sample.py)
README.md, run.py                              what it is, for people who receive it, and how to run it
example.cpp, example.mjs                       the golden vectors in ONNX Runtime, in C++ and JavaScript
reference/trained.onnx, reference/folded.onnx  what `verify` compares against, without PyTorch's model
manifest.json, parity.json, report.html        the decisions of the fold, what verification found, both for people
manifest.schema.json                           what a manifest is (JSON Schema)
SHA256SUMS                                     of all other files (sums.py)
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calib.errors import QuantizationError, shown
from calib.tables import Table, Tabular
from lsq_export.verification.parity import Parity

from . import parity_claims, schema
from .bundle_table import bundle_table
from .layout import BENCH as BENCH
from .layout import FOLDED as FOLDED
from .layout import MANIFEST, MODEL, SUMS
from .layout import PARITY as PARITY
from .layout import README as README
from .layout import REPORT as REPORT
from .layout import RUN as RUN
from .layout import TRAINED as TRAINED
from .reading import Files

WRITTEN = "a directory that lsq-export export, calibrate or adopt wrote"


@dataclass(frozen=True, repr=False)
class Bundle(Tabular):
    """A bundle on disk.

    models: {format: path of its model.onnx}. manifest: what manifest.json holds. parity: of a bundle that `export`
    returned, what its verification found; None of one that was opened (see parity.json, or run `verify`).
    """

    directory: Path
    models: dict[str, Path]
    manifest: dict[str, Any]
    parity: Parity | None = None

    @property
    def table(self) -> Table:
        """What is shown: its files, what they take, and what is known of their verification."""
        return bundle_table(self.directory, self.manifest, self.parity)


def open_bundle(directory: str | os.PathLike[str]) -> Bundle:
    """Read a bundle that `export` wrote: its manifest. (`verify` compares all files with SHA256SUMS.)

    Errors (QuantizationError): no such directory, or no bundle in it; of these a DamagedError: a manifest that is not
    the one that SHA256SUMS knows, or not as the schema of manifests has it (the place is named).
    """
    path = Path(directory)
    if not path.is_dir():
        what = "is no directory" if path.exists() else "does not exist"
        raise QuantizationError(f"bundle {path} {what}: give {WRITTEN}")
    if not is_bundle(path):
        raise QuantizationError(f"bundle {path} has no readable {MANIFEST}: give {WRITTEN}")
    files = Files(path)
    manifest = files.json(MANIFEST)
    try:
        schema.check("manifest", manifest)
    except ValueError as error:
        raise files.error(MANIFEST, f"is damaged: {error}") from error
    return Bundle(path, {name: path / name / MODEL for name in manifest["formats"]}, manifest)


def is_bundle(path: Path) -> bool:
    """Whether a directory is one, whole or damaged."""
    if (path / MANIFEST).exists():
        return True
    return (path / SUMS).is_file() and MANIFEST in Files(path).sums


def read_parity(bundle: Bundle) -> dict[str, Any]:
    """What parity.json holds.

    Errors (DamagedError): it is missing, not what SHA256SUMS knows, not as the schema of parities has it, or its
    verdicts are not those of its numbers.
    """
    files = Files(bundle.directory)
    parity: dict[str, Any] = files.json(PARITY)
    try:
        schema.check("parity", parity)
    except ValueError as error:
        raise files.error(PARITY, f"is damaged: {error}") from error
    if lines := list(parity_claims.contradictions(parity)):
        raise files.error(PARITY, f"contradicts itself: {shown(lines[0])}")
    return parity
