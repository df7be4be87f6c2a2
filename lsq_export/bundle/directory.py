"""A bundle: the directory that is handed over.

<format>/model.onnx                            the network
<format>/test_data_set_0/{input,output}_0.pb   golden vectors, in ONNX's own convention (golden.py)
sample/                                        one sample and the output that belongs to it (sample.py)
README.md, run.py                              what it is, for people who receive it, and how to run it
reference/trained.onnx, reference/folded.onnx  what `verify` compares against, without PyTorch's model
manifest.json, parity.json, report.html        the decisions of the fold, what verification found, both for people
SHA256SUMS                                     of all other files (sums.py)
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from calib.errors import QuantizationError
from calib.tables import Table, Tabular
from lsq_export.verification.parity import Parity

from .bundle_table import bundle_table

MANIFEST, PARITY, REPORT, SUMS = "manifest.json", "parity.json", "report.html", "SHA256SUMS"
BENCH = "bench.json"  # latencies, where a demo or `bench --json` put them
MODEL, README, RUN = "model.onnx", "README.md", "run.py"
TRAINED, FOLDED = Path("reference/trained.onnx"), Path("reference/folded.onnx")
_AGAIN = "copy or export the bundle again"

_MANIFEST_TYPES = {
    "lsq_export": str,
    "target": str,
    "opset": int,
    "formats": dict,
    "input": dict,
    "outputs": list,
    "tensors": list,
    "layers": list,
}


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
    """Read a bundle that `export` wrote. (`verify` compares its files with SHA256SUMS.)

    Errors (QuantizationError): no such directory, no manifest, or one that lacks something (named).
    """
    path = Path(directory)
    if not path.is_dir():
        raise QuantizationError(f"bundle {path} is not a directory: give one that lsq-export export wrote")
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise QuantizationError(
            f"bundle {path} has no readable {MANIFEST}: give a directory that lsq-export export wrote"
        ) from error
    _check_manifest(path, manifest)
    return Bundle(path, {name: path / name / MODEL for name in manifest["formats"]}, manifest)


def _check_manifest(path: Path, manifest: Any) -> None:
    for key, kind in _MANIFEST_TYPES.items():
        if not isinstance(manifest, dict) or not isinstance(manifest.get(key), kind):
            raise QuantizationError(f"bundle {path}: {key} is missing in {MANIFEST}, or no {kind.__name__}; {_AGAIN}")
    if not manifest["formats"] or not isinstance(manifest["input"].get("shape"), list):
        raise QuantizationError(f"bundle {path}: {MANIFEST} names no format or no input shape; {_AGAIN}")


def load_onnx(path: Path) -> onnx.ModelProto:
    """One ONNX file of a bundle. Errors (QuantizationError): a file that cannot be read."""
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's own error types
        raise QuantizationError(f"{path} is not a readable ONNX file ({type(error).__name__}); {_AGAIN}") from error
    if not model.graph.node or not model.graph.input:  # almost any few bytes parse as an empty protobuf message
        raise QuantizationError(f"{path} is not a readable ONNX file (no graph in it); {_AGAIN}")
    return model
