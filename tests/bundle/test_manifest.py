"""lsq_export/bundle/manifest.py: the files, and what became of every grid."""

from __future__ import annotations

import json

import pytest

import lsq_export
from support.exported import SHAPE, Exported
from support.published import published


def test_manifest(exported: Exported) -> None:
    directory, manifest = exported.bundle.directory, exported.bundle.manifest
    assert manifest == json.loads((directory / "manifest.json").read_text())
    assert manifest["input"] == {"name": "input", "type": "float32", "shape": ["batch", *SHAPE]} and manifest[
        "outputs"
    ] == ["output"]
    assert (
        manifest["target"] == "ort-cpu"
        and manifest["source"] == {"data": exported.data, "config": published().to_dict()}
        and manifest["preprocessing"] == {"data": "npz"}
    )
    for name, entry in manifest["formats"].items():
        assert (directory / entry["file"]).stat().st_size == entry["bytes"] and exported.bundle.models[
            name
        ] == directory / entry["file"]
    assert [layer["name"] for layer in manifest["layers"]] == [
        "conv1",
        "conv2",
        "conv3",
        "depthwise",
        "pointwise",
        "grouped",
        "fc",
    ]
    named = {tensor["name"] for tensor in manifest["tensors"]}
    assert named >= {name for name, q in lsq_export.quantizers(exported.model).items() if q.kind == "activation"}


def test_manifest_tells_what_was_learned_and_what_became_of_it(exported: Exported) -> None:
    quantizers = lsq_export.quantizers(exported.model)
    for tensor in exported.bundle.manifest["tensors"]:
        if tensor["kind"] != "activation":
            continue
        learned = quantizers[tensor["name"]]
        assert tensor["scale"] == pytest.approx(learned.scale.item()) and tensor["offset"] == pytest.approx(
            learned.offset.item()
        )
        assert tensor["levels"] <= 2**learned.bits
        assert tensor["error_steps"] == pytest.approx(
            (tensor["offset_carried"] - tensor["offset"]) / tensor["scale"], abs=1e-6
        )
        assert abs(tensor["error_steps"]) < 0.5 / tensor["stride"] + 1e-6  # E5
    for layer in exported.bundle.manifest["layers"]:
        assert layer["accumulator"] < 2**31 and layer["bits"] in (4, 8) and layer["container"] in ("INT8", "UINT8")
