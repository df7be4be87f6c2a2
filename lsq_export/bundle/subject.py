"""What a bundle says that it is, read for its verification: nothing is parsed before its sum was compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import onnxruntime

from calib.errors import DamagedError, QuantizationError, shown
from calib.samples import from_arrays
from lsq_export.files import large_onnx
from lsq_export.rewrite.contract.decisions import decisions_of
from lsq_export.verification.checking import Golden, Subject, check
from lsq_export.verification.runtime import RefusedError

from .claims import Graphs, contradictions
from .directory import Bundle
from .golden import golden_files, read_golden
from .layout import AGAIN, FOLDED, MANIFEST, MODEL, TRAINED
from .quantized_outputs import OutputGrid, grids_of, with_last
from .reading import Files, damaged, the_bundles_fault
from .sums import changed_files

SHOWN = 5  # contradictions in a message


def subject_of(bundle: Bundle) -> Subject:
    """What is verified. Its `damaged` are files that verification does not need (report.html, say).

    Errors (DamagedError): files that it needs are not what SHA256SUMS says; graphs that cannot be followed; a manifest
    that contradicts them.
    """
    files = Files(bundle.directory)
    models = {name: f"{name}/{MODEL}" for name in bundle.models}
    golden = [file for name in bundle.models for file in golden_files(files, name)]
    changed = changed_files(bundle)
    if {MANIFEST, str(TRAINED), str(FOLDED), *models.values(), *golden} & {*changed}:
        raise damaged(bundle.directory, changed)
    with the_bundles_fault(bundle.directory):
        grids = {name: grids_of(bundle.manifest["formats"][name]) for name in bundle.models}
        graphs = graphs_of(files, models, grids)
        if lines := contradictions(bundle.manifest, graphs):
            raise DamagedError(f"bundle {shown(bundle.directory)}: {_first(lines)}; {AGAIN}")
        return Subject(
            trained=graphs.trained,
            folded=graphs.folded,
            files=graphs.files,
            target=str(bundle.manifest["target"]),
            decisions=decisions_of(bundle.manifest),
            damaged=tuple(changed),
            golden={name: _golden_values(read_golden(files, name), grids[name]) for name in bundle.models},
            asked=bundle.manifest.get("asked", {}),
        )


def fails_by_itself(bundle: Bundle, subject: Subject, error: QuantizationError) -> bool:
    """Whether a bundle fails on its own golden inputs as well, so that an error is not of the data or the model.

    What another ONNX Runtime refuses than the one that the bundle was exported with may be the fault of that.
    """
    made_with = bundle.manifest.get("made_with", {}).get("onnxruntime")
    if isinstance(error, RefusedError) and made_with != onnxruntime.__version__:
        return False
    try:
        check(subject, [from_arrays(next(iter(subject.golden.values()))[0])])
    except Exception:
        return True
    return False


def check_written(directory: Path, manifest: Mapping[str, Any]) -> None:
    """What an export has written, held against itself as `verify` does it, before anybody sees it.

    Errors (QuantizationError): the manifest contradicts the files, or one is no valid ONNX, which is an error of
    lsq-export.
    """
    paths = {name: directory / name / MODEL for name in manifest["formats"]}
    trained, folded = onnx.load(directory / TRAINED), onnx.load(directory / FOLDED)
    for path, proto in ((TRAINED, trained), (FOLDED, folded)):  # the others were checked when they were made
        if why := _invalid(proto):
            raise QuantizationError(f"{path} is no valid ONNX ({why:.200}): an error of lsq-export; please report it")
    graphs = _graphs(
        trained,
        folded,
        files={name: with_last(onnx.load(path), grids_of(manifest["formats"][name])) for name, path in paths.items()},
        sizes={name: large_onnx.size_of(path) for name, path in paths.items()},
    )
    if lines := contradictions(manifest, graphs):
        raise QuantizationError(f"{_first(lines)}: an error of lsq-export, not of your model; please report it")


def _first(lines: Sequence[str]) -> str:
    more = f"; and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    return f"{'; '.join(lines[:SHOWN])}{more}"


def graphs_of(
    files: Files, models: Mapping[str, str], grids: Mapping[str, Mapping[str, OutputGrid]] | None = None
) -> Graphs:
    """models: {format: name of its file}. grids: {format: {output: its grid}}, of formats whose outputs are codes.

    Errors (DamagedError): files that are no valid ONNX.
    """
    trained, folded = (_checked(files, str(path)) for path in (TRAINED, FOLDED))
    sizes = {name: large_onnx.size_of(files.directory / file) for name, file in models.items()}
    checked = {name: with_last(_checked(files, file), (grids or {}).get(name, {})) for name, file in models.items()}
    return _graphs(trained, folded, checked, sizes)


def _golden_values(golden: Golden, grids: Mapping[str, OutputGrid]) -> Golden:
    """Golden vectors with values as outputs."""
    x, outputs = golden
    return x, {name: grids[name].values(value) if name in grids else value for name, value in outputs.items()}


def _graphs(
    trained: onnx.ModelProto, folded: onnx.ModelProto, files: Mapping[str, onnx.ModelProto], sizes: Mapping[str, int]
) -> Graphs:
    return Graphs(
        trained=ir.from_proto(trained),
        folded=ir.from_proto(folded),
        folded_metadata={entry.key: entry.value for entry in folded.metadata_props},
        files=files,
        sizes=sizes,
    )


def _checked(files: Files, name: str) -> onnx.ModelProto:
    """A model that onnx.checker accepts: its nodes, types and order."""
    proto = files.onnx(name)
    if why := _invalid(proto):
        raise files.error(name, f"is no valid ONNX ({why:.200})")
    return proto


def _invalid(proto: onnx.ModelProto) -> str | None:
    """Why onnx.checker does not accept a model; None: it does."""
    try:
        onnx.checker.check_model(proto if large_onnx.is_light(proto) else large_onnx.skeleton(proto))
    except Exception as error:  # its ValidationError, and those of protobuf
        return shown((str(error).strip().splitlines() or [type(error).__name__])[0])
    return None
