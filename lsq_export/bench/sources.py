"""What `bench` compares, where the files exist already: ONNX files and bundles."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from calib.errors import QuantizationError
from lsq_export.bundle.directory import is_bundle, open_bundle
from lsq_export.bundle.layout import LOOKUP, MODEL, TRAINED
from lsq_export.bundle.reading import Files
from lsq_export.kernels import is_built

from .float_model import float_model_of
from .openvino import openvino_models
from .peer import peer_models
from .sessions import STOCK, Source, open_session, random_inputs

FLOAT = "float"
IMAGES = 8  # random ones, on which the peer is calibrated
REBUILT = (
    "rebuilt from reference/trained.onnx of the bundle, whose operators are normalized: faster than what torch exports"
)
EXPORTED = "torch.onnx.export(dynamo=True) of the float network, untouched"


@dataclass(frozen=True)
class Subject:
    """One network to measure.

    network: its name, for titles. models: name -> file or serialized model, the baseline first. float_origin: where the
    model "float" comes from, None without one. notes: what a reader of the numbers should know, a line each.
    """

    network: str
    models: dict[str, Source]
    float_origin: str | None = None
    notes: tuple[str, ...] = field(default=())


def subject_of_bundle(*paths: str | os.PathLike[str], peer: bool = False, openvino: bool = False) -> Subject:
    """Files and bundles, as `collect` finds them.

    peer: with ONNX Runtime's quantization of the float network, which must be the only one. openvino: with what
    OpenVINO makes of the models. Errors (QuantizationError):
    those of `collect` and `peer_models`; a peer of anything but one bundle with a float network.
    """
    models = collect(paths)
    notes: tuple[str, ...] = ()
    rebuilt = any(isinstance(source, bytes) for source in models.values())
    if peer:
        if FLOAT not in models:
            raise QuantizationError(
                "--peer quantizes the float network of one bundle (reference/trained.onnx): give one bundle, or use "
                "--no-peer"
            )
        (x,) = random_inputs(FLOAT, open_session(FLOAT, models[FLOAT], 1), IMAGES, 0).values()
        theirs, notes = peer_models(models[FLOAT], x)
        models |= theirs
    if openvino:
        elsewhere, more = openvino_models(models)
        models |= elsewhere
        notes += more
    return Subject(", ".join(map(str, paths)), models, REBUILT if rebuilt else None, notes)


def collect(paths: Sequence[str | os.PathLike[str]]) -> dict[str, Source]:
    """name -> ONNX file, or serialized model, of files and bundles.

    A file is called by its path. Of a bundle, the float network (made from reference/trained.onnx) comes first and is
    called "float"; the others are called by their format. With several paths the name of the directory comes before
    these. Errors (QuantizationError): a path that does not exist, a directory without models, a bundle whose reference
    is damaged.
    """
    models: dict[str, Source] = {}
    for path in map(Path, paths):
        if path.is_dir():
            prefix = f"{path}/" if len(paths) > 1 else ""
            files = {f"{prefix}{name}": source for name, source in _in_folder(path).items()}
        elif path.is_file():
            files = {str(path): path}
        else:
            raise QuantizationError(f"{path} does not exist: give ONNX files or a bundle")
        if not files:
            raise QuantizationError(
                f"{path} is no bundle: it has no <format>/model.onnx; give ONNX files or a directory that lsq-export "
                "export wrote"
            )
        models |= files
    return models


def _in_folder(path: Path) -> dict[str, Source]:
    """{name: model} of a bundle, read as its sums say; or of another folder, <name>/model.onnx."""
    if not is_bundle(path):
        return {file.parent.name: file for file in sorted(path.glob(f"*/{MODEL}"))}
    bundle, files = open_bundle(path), Files(path)
    models: dict[str, Source] = {FLOAT: float_model_of(path)} if str(TRAINED) in files.sums else {}
    for name in sorted(bundle.models):
        files.onnx(f"{name}/{MODEL}")  # whatever times it reads the file again
    return models | with_stock(dict(sorted(bundle.models.items())))


def with_stock(models: Mapping[str, Source]) -> dict[str, Source]:
    """A file with tables is timed with our operators, where these are built, and in ONNX Runtime alone."""
    found = {name: source for name, source in models.items() if name != LOOKUP or is_built()}
    return {**found, STOCK: models[LOOKUP]} if LOOKUP in models else found
