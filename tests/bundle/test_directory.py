"""lsq_export/bundle/directory.py: a bundle is opened as it was exported, or what it lacks is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import lsq_export
from calib.errors import DamagedError, QuantizationError
from lsq_export.bundle.directory import read_parity
from lsq_export.bundle.sums import write_sums
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
        *(
            (without(key), f"manifest.json is damaged: it has no {key}; copy or export the bundle again")
            for key in KEYS
        ),
        (lambda manifest: manifest | {"opset": "17"}, "opset is 17: it must be of the type integer; copy or export"),
        (lambda manifest: [manifest], "manifest.json is damaged: it is list: it must be of the type object"),
        (lambda manifest: manifest | {"formats": {}}, "formats is dict: it must not be empty"),
        (
            lambda manifest: manifest | {"formats": {"../x": {"file": "x", "bytes": 1}}},
            "formats is dict: it must have other names",
        ),
        (lambda manifest: manifest | {"input": {}}, "input has no 'name'"),
        *(
            (lambda manifest, step=step: manifest | {"preprocessing": step}, f"preprocessing.{says}")
            for step, says in (
                ({"std": [None]}, "std[0] is None: it must be of the type number"),
                ({"std": ["a"]}, "std[0] is a: it must be of the type number"),
                ({"std": [[0.5]]}, "std[0] is list: it must be of the type number"),
                ({"std": [0.5, 0]}, "std[1] is 0: it must be more than 0"),
                ({"std": {}}, "std is dict: it must be of the type number or array or null"),
                ({"mean": "0.5"}, "mean is 0.5: it must be of the type number or array or null"),
                ({"divide_by": 0}, "divide_by is 0: it must be more than 0"),
                ({"resize": [16, 16, 16]}, "resize is list: it must have 2 entries or fewer"),
                ({"resize": True}, "resize is True: it must be of the type integer or array or null"),
                ({"crop": 0.5}, "crop is 0.5: it must be of the type integer or null"),
                ({"classes": [1]}, "classes[0] is 1: it must be of the type string"),
                ({"data": []}, "data is list: it must be of the type string or null"),
                ({"interpolation": 2}, "interpolation is 2: it must be of the type string or null"),
            )
        ),
    ],
)
def test_a_manifest_that_lacks_something_is_named(
    change: Callable[[dict[str, Any]], object], says: str, exported: Exported, tmp_path: Path
) -> None:
    """Its sum is right, so that nothing but the schema can tell."""
    (tmp_path / "manifest.json").write_text(json.dumps(change(exported.bundle.manifest)))
    write_sums(tmp_path)
    with pytest.raises(DamagedError) as error:
        lsq_export.open_bundle(tmp_path)
    assert says in str(error.value) and str(tmp_path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"opset": 1, "opset": 2}', b'{"opset": NaN}'])
def test_an_unreadable_manifest_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    write_sums(tmp_path)
    with pytest.raises(DamagedError, match=r"manifest\.json is no JSON that can be read \("):
        lsq_export.open_bundle(tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda p: p | {"ok": False}, "ok is False, and failures has 0 entries"),
        (lambda p: p | {"failures": ["x"]}, "ok is True, and failures has 1 entry"),
        (
            lambda p: p | {"promises": [{**p["promises"][0], "holds": False}, *p["promises"][1:]]},
            "ok is True, and of the promises exact run is broken",
        ),
        *(
            (
                lambda p, change=change: p | {"formats": {"qoperator": p["formats"]["qoperator"] | change}},
                f"formats.qoperator.{says}",
            )
            for change, says in (
                ({"reference_mismatch": 3}, "ok is True, and its reference_mismatch is not empty"),
                ({"altered": ["x"]}, "ok is True, and its altered is not empty"),
                ({"ok": False}, "ok is False"),
            )
        ),
    ],
)
def test_a_parity_that_contradicts_itself_is_named(
    change: Callable[[dict[str, Any]], object], says: str, exported: Exported, tmp_path: Path
) -> None:
    """Its sum is right, and its types are."""
    bundle = exported.copy(tmp_path)
    (bundle.directory / "parity.json").write_text(json.dumps(change(read_parity(bundle))))
    write_sums(bundle.directory)
    with pytest.raises(DamagedError) as error:
        read_parity(bundle)
    assert f"parity.json contradicts itself: {says}" in str(error.value).replace("ok is True, and formats", "formats")


def test_no_bundle_and_a_missing_manifest_are_named(tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match=r"has no readable manifest\.json: give a directory") as error:
        lsq_export.open_bundle(tmp_path)
    assert not isinstance(error.value, DamagedError)
    (tmp_path / "manifest.json").write_text("{}")
    write_sums(tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(DamagedError, match=r"manifest\.json is missing; copy or export"):
        lsq_export.open_bundle(tmp_path)


def test_what_is_no_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match="nowhere does not exist: give a directory that"):
        lsq_export.open_bundle(tmp_path / "nowhere")


def test_a_changed_manifest_is_not_parsed(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    (bundle.directory / "manifest.json").write_text("{")
    with pytest.raises(DamagedError, match=r"manifest\.json is not what was exported \(SHA256SUMS\)"):
        lsq_export.open_bundle(bundle.directory)


def test_the_parity_is_read_as_strictly(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    parity = read_parity(bundle)
    assert parity["ok"] is True
    path = bundle.directory / "parity.json"
    path.write_text(json.dumps(parity | {"images": -1}))
    with pytest.raises(DamagedError, match=r"parity\.json is not what was exported"):
        read_parity(bundle)
    write_sums(bundle.directory)
    with pytest.raises(DamagedError, match=r"parity\.json is damaged: images is -1: it must be 1 or more"):
        read_parity(bundle)
