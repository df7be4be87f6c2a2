"""lsq_export/bundle/metadata.py: a model file alone says its classes, its preprocessing and its license."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import onnxruntime
import pytest
from torch import nn

from lsq_export.bundle.metadata import metadata_of, with_metadata
from lsq_export.bundle.origin import Origin
from support.bundles import export
from support.exported import Exported

SAID = {
    "classes": ["Käse", "Brot", "c", "d", "e"],
    "license": "Apache-2.0",
    "preprocessing": {"divide_by": 255.0, "mean": [0.5], "classes": ["Käse", "Brot", "c", "d", "e"]},
}


def test_a_file_alone_says_what_it_is(model: nn.Module, tmp_path: Path) -> None:
    """In ONNX Runtime, too, with the graph and the outputs of a file that says nothing."""
    silent, said = export(model, tmp_path / "a"), export(model, tmp_path / "b", **SAID)
    for name, path in said.models.items():
        onnx.checker.check_model(onnx.load(path))
        found = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
        assert json.loads(found["classes"]) == SAID["classes"] and found["model_license"] == "Apache-2.0"
        assert json.loads(found["preprocessing"]) == {"divide_by": 255.0, "mean": [0.5]}
        assert onnx.load(path).graph == onnx.load(silent.models[name]).graph
        assert dict(onnxruntime.InferenceSession(silent.models[name]).get_modelmeta().custom_metadata_map) == {}


def test_what_nobody_said_has_no_entry() -> None:
    assert metadata_of(Origin()) == {} and set(metadata_of(Origin(license="MIT"))) == {"model_license"}


@pytest.mark.parametrize("name", ["qdq", "qoperator"])
def test_the_model_that_is_described_stays_as_it_is(name: str, exported: Exported) -> None:
    model = exported.file(name)
    before = model.SerializeToString(deterministic=True)
    described = with_metadata(model, Origin(license="MIT"))
    assert model.SerializeToString(deterministic=True) == before and described.graph == model.graph
