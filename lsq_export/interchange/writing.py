"""write: the trained network of a bundle, in a form that other tools read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from calib.errors import QuantizationError, near
from lsq_export.bundle.directory import Bundle, open_bundle
from lsq_export.bundle.layout import TRAINED
from lsq_export.bundle.reading import Files
from lsq_export.files import large_onnx
from lsq_export.files.text import write_json

from .encodings_file import encodings_file
from .qonnx_file import qonnx_file

FORMS = ("qonnx", "encodings")


@dataclass(frozen=True, kw_only=True)
class Written:
    """files: paths. moved: the most steps that an offset was rounded by, of `tensor`; 0 where none was."""

    files: tuple[Path, ...]
    moved: float = 0.0
    tensor: str = ""


def write(bundle: Bundle | str | os.PathLike[str], form: str, out: str | os.PathLike[str]) -> Written:
    """Write NAME.onnx, and for the form "encodings" NAME.encodings beside it. out: a path that ends with .onnx.

    form: "qonnx" (Quant nodes, β as it was trained) or "encodings" (float ONNX and AIMET's JSON, version 2.0.0).
    Errors (QuantizationError): an unknown form, a file that exists, grids that the form cannot say.
    """
    if form not in FORMS:
        raise QuantizationError(f"form {form!r} is unknown: use {' or '.join(FORMS)}{near(form, FORMS)}")
    path = Path(out)
    if path.suffix != ".onnx":
        raise QuantizationError(f"out is {path}: give a name that ends with .onnx")
    files = (path, path.with_suffix(".encodings")) if form == "encodings" else (path,)
    for file in files:
        if file.exists():
            raise QuantizationError(f"{file} exists, and is not replaced: give another name")
    bundle = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    trained = Files(bundle.directory).onnx(str(TRAINED))
    bits = {entry["name"]: int(entry["bits"]) for entry in bundle.manifest["layers"] if entry["bits"]}
    try:
        if form == "qonnx":
            large_onnx.save(qonnx_file(trained, bits), path)
            return Written(files=files)
        found = encodings_file(trained, bits)
        _write_pair(found.file, found.encodings, path)
    except OSError as error:
        raise QuantizationError(f"{path} cannot be written ({error.strerror or error}): give another name") from error
    return Written(files=files, moved=found.moved, tensor=found.tensor)


def _write_pair(file: onnx.ModelProto, encodings: dict[str, Any], path: Path) -> None:
    write_json(path.with_suffix(".encodings"), encodings)
    large_onnx.save(file, path)
