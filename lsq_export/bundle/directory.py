"""bundle: the directory that is handed over. It appears whole or not at all, and nothing a user has is overwritten
unasked.

<format>/model.onnx, <format>/test_data_set_0/{input,output}_0.pb     the networks and golden vectors (ONNX's own convention)
reference/trained.onnx, reference/folded.onnx                         what `verify` compares against, without PyTorch's model
manifest.json, parity.json, report.html, SHA256SUMS
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from calib.errors import QuantizationError
from lsq_export.files.atomic import replacing
from lsq_export.verification.parity import Parity

MANIFEST, PARITY, REPORT, SUMS = "manifest.json", "parity.json", "report.html", "SHA256SUMS"
TRAINED, FOLDED = Path("reference/trained.onnx"), Path("reference/folded.onnx")

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


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk.

    models: {format: path of its model.onnx}. manifest: what manifest.json holds. parity: of a bundle that `export`
    returned, what its verification found; None of one that was opened (see parity.json, or run `verify`).
    """

    directory: Path
    models: dict[str, Path]
    manifest: dict[str, Any]
    parity: Parity | None = None


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
    for key, kind in _MANIFEST_TYPES.items():
        if not isinstance(manifest, dict) or not isinstance(manifest.get(key), kind):
            raise QuantizationError(
                f"bundle {path}: {key} is missing in {MANIFEST}, or no {kind.__name__}; copy or export the bundle again"
            )
    if not manifest["formats"] or not isinstance(manifest["input"].get("shape"), list):
        raise QuantizationError(
            f"bundle {path}: {MANIFEST} names no format or no input shape; copy or export the bundle again"
        )
    return Bundle(path, {name: path / name / "model.onnx" for name in manifest["formats"]}, manifest)


def changed_files(bundle: Bundle) -> list[str]:
    """Files that differ from SHA256SUMS or are missing, relative to the bundle; empty if all is as exported."""
    sums = _read_sums(bundle.directory)
    required = [
        MANIFEST,
        str(TRAINED),
        str(FOLDED),
        *(str(p.relative_to(bundle.directory)) for p in bundle.models.values()),
    ]
    unlisted = [name for name in required if name not in sums]
    return unlisted + [
        name
        for name, digest in sums.items()
        if not (bundle.directory / name).is_file() or _sha256(bundle.directory / name) != digest
    ]


def load_onnx(path: Path) -> onnx.ModelProto:
    """One ONNX file of a bundle; damage is a one-line error."""
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's own error types
        raise QuantizationError(
            f"{path} is not a readable ONNX file ({type(error).__name__}); copy or export the bundle again"
        ) from error
    if not model.graph.node or not model.graph.input:  # almost any few bytes parse as an empty protobuf message
        raise QuantizationError(f"{path} is not a readable ONNX file (no graph in it); copy or export the bundle again")
    return model


@contextmanager
def new_directory(out: str | os.PathLike[str], *, force: bool) -> Iterator[Path]:
    """A temporary directory beside `out` that takes its place when the block ends well, and vanishes when it does not.

    Errors (QuantizationError): `out` is a file, or not empty without force, or holds something that is no bundle, or
    cannot be written."""
    target = Path(out)
    _check_target(target, force)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        temporary.chmod(0o755)
    except OSError as error:
        raise QuantizationError(f"the output directory {target} cannot be written: {error.strerror}") from error
    try:
        yield temporary
        write_sums(temporary)
        _check_target(target, force)
        try:
            _swap(temporary, target)
        except OSError as error:
            raise QuantizationError(
                f"the output directory {target} cannot be replaced: {error.strerror}; give another"
            ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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


def _check_target(target: Path, force: bool) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise QuantizationError(f"the output {target} is a file: give a directory")
    if any(target.iterdir()):
        if not force:
            raise QuantizationError(
                f"the output directory {target} is not empty: give another, or use --force (force=True) to replace it"
            )
        if not (target / MANIFEST).is_file():
            raise QuantizationError(
                f"the output directory {target} is not empty and holds no bundle, so it is not replaced: empty it "
                "yourself, or give another"
            )


def write_model(
    directory: Path, name: str, proto: onnx.ModelProto, x: np.ndarray, outputs: Mapping[str, np.ndarray]
) -> None:
    """<name>/model.onnx with its golden vectors: x, float32 [N, …], and the outputs that belong to it."""
    data = directory / name / "test_data_set_0"
    data.mkdir(parents=True)
    onnx.save(proto, directory / name / "model.onnx")
    (data / "input_0.pb").write_bytes(numpy_helper.from_array(x, proto.graph.input[0].name).SerializeToString())
    for index, (output, value) in enumerate(outputs.items()):
        (data / f"output_{index}.pb").write_bytes(numpy_helper.from_array(value, output).SerializeToString())


def read_golden(directory: Path, name: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The golden vectors of a format: input, and outputs by name; damage is a one-line error."""
    data = directory / name / "test_data_set_0"
    tensors = []
    try:
        for path in (data / "input_0.pb", *sorted(data.glob("output_*.pb"))):
            tensor = onnx.TensorProto.FromString(path.read_bytes())
            tensors.append((tensor.name, numpy_helper.to_array(tensor)))
    except Exception as error:  # protobuf's own error types
        raise QuantizationError(
            f"{data} has no readable golden vectors ({type(error).__name__}); copy or export the bundle again"
        ) from error
    return tensors[0][1], dict(tensors[1:])


def write_json(path: Path, content: Any) -> None:
    """Indented JSON; the file appears whole."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """UTF-8; the file appears whole."""
    try:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise QuantizationError(f"{path} cannot be written: {error.strerror}") from error


def write_sums(directory: Path) -> None:
    """SHA256SUMS of every other file, in `sha256sum -c` form."""
    names = sorted(str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file() and p.name != SUMS)
    write_text(directory / SUMS, "".join(f"{_sha256(directory / name)}  {name}\n" for name in names))


def update_sums(directory: Path, *names: str) -> None:
    """New sums for files that `verify` wrote anew; every other line stays, so that a change elsewhere still shows."""
    sums = _read_sums(directory) | {name: _sha256(directory / name) for name in names}
    write_text(directory / SUMS, "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)))


def _read_sums(directory: Path) -> dict[str, str]:
    """{file: digest}."""
    try:
        lines = (directory / SUMS).read_text(encoding="utf-8").splitlines()
        return {name: digest for digest, name in (line.split("  ", 1) for line in lines if line)}
    except (OSError, ValueError) as error:
        raise QuantizationError(f"bundle {directory} has no readable {SUMS}; export it again") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
