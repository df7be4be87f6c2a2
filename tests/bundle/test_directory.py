"""lsq_export/bundle/directory.py: a bundle is opened as it was exported, or what it lacks is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import lsq_export
from calib.errors import QuantizationError
from lsq_export.bundle.directory import FOLDED, TRAINED, load_onnx
from support.exported import Exported


def test_open_bundle_reads_what_export_returned(exported: Exported) -> None:
    again = lsq_export.open_bundle(str(exported.bundle.directory))
    assert again == replace(exported.bundle, parity=None)
    assert set(again.models) == {"qdq", "qoperator"} and isinstance(again.directory, Path)


KEYS = ("lsq_export", "target", "opset", "formats", "input", "outputs", "tensors", "layers")


def without(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda manifest: {name: value for name, value in manifest.items() if name != key}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        *((without(key), f"{key} is missing in manifest.json, or no ") for key in KEYS),
        (lambda manifest: manifest | {"opset": "17"}, "opset is missing in manifest.json, or no int; copy or export"),
        (lambda manifest: [manifest], "lsq_export is missing in manifest.json, or no str"),
        (lambda manifest: manifest | {"formats": {}}, "manifest.json names no format or no input shape"),
        (lambda manifest: manifest | {"input": {}}, "manifest.json names no format or no input shape"),
    ],
)
def test_a_manifest_that_lacks_something_is_named(
    change: Callable[[dict[str, Any]], object], says: str, exported: Exported, tmp_path: Path
) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(change(exported.bundle.manifest)))
    with pytest.raises(QuantizationError, match=says) as error:
        lsq_export.open_bundle(tmp_path)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff\xfe"])
def test_an_unreadable_manifest_is_named(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(QuantizationError, match=r"has no readable manifest\.json: give a directory"):
        lsq_export.open_bundle(tmp_path)


def test_what_is_no_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match="nowhere is not a directory"):
        lsq_export.open_bundle(tmp_path / "nowhere")


@pytest.mark.parametrize("path", [TRAINED, FOLDED])
def test_the_reference_graphs_are_onnx_files(path: Path, exported: Exported) -> None:
    assert load_onnx(exported.bundle.directory / path).graph.node


@pytest.mark.parametrize("content", [None, b"", b"\x08\x07", b"junk" * 9])
def test_a_damaged_onnx_file_is_named(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(QuantizationError, match=r"model\.onnx is not a readable ONNX file \(") as error:
        load_onnx(path)
    assert "\n" not in str(error.value)
