"""lsq_export/bundle/claims.py: every number of a manifest is held against the ONNX files, whatever its sums say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import onnx
import pytest

import lsq_export
from calib.errors import DamagedError
from lsq_export.bundle.claims import COPY, contradictions
from lsq_export.bundle.layout import FOLDED
from lsq_export.bundle.reading import Files
from lsq_export.bundle.subject import graphs_of, subject_of
from lsq_export.bundle.sums import write_sums
from support.commands import invoke
from support.exported import Exported

Path = tuple[str | int, ...]


def numbers(value: Any, place: Path = ()) -> Iterator[Path]:
    """The places of all numbers in plain values."""
    if isinstance(value, (dict, list)):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from numbers(part, (*place, key))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield place


def changed(manifest: dict[str, Any], place: Path) -> dict[str, Any]:
    """With another number there: twice as large, and still one that the schema takes where it can be."""
    copy = json.loads(json.dumps(manifest))
    inner = copy
    for key in place[:-1]:
        inner = inner[key]
    old = inner[place[-1]]
    inner[place[-1]] = old * 2 if old else 1
    return copy


def rewrite(bundle: lsq_export.Bundle, manifest: dict[str, Any]) -> None:
    """With right sums."""
    (bundle.directory / "manifest.json").write_text(json.dumps(manifest))
    write_sums(bundle.directory)


def refusal(bundle: lsq_export.Bundle) -> str:
    with pytest.raises(DamagedError) as error:
        subject_of(lsq_export.open_bundle(bundle.directory))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_bundle_as_exported_is_believed(exported: Exported) -> None:
    assert subject_of(exported.bundle).damaged == ()


@pytest.mark.slow
def test_every_number_is_held_against_the_files(exported: Exported) -> None:
    bundle = exported.bundle
    graphs = graphs_of(Files(bundle.directory), {name: f"{name}/model.onnx" for name in bundle.models})
    assert contradictions(bundle.manifest, graphs) == []
    places = list(numbers(bundle.manifest))
    assert len(places) > 200
    for place in places:
        lines = contradictions(changed(bundle.manifest, place), graphs)
        last = next(key for key in reversed(place) if isinstance(key, str))
        assert any(last in line and line.startswith("manifest.json: ") for line in lines), (place, lines)


def test_scales_and_zero_points_are_derived(exported: Exported, tmp_path: Any) -> None:
    """Also where somebody changed the copy of the manifest with it: both numbers are told."""
    bundle = exported.copy(tmp_path)
    graph = onnx.load(bundle.directory / FOLDED)
    for place in (
        *(("tensors", 2, key) for key in ("scale", "container_scale", "zero_point")),
        *(("layers", 1, key) for key in ("bits", "dead_channels")),
        ("layers", 1, "codes", "counts", 0),
        ("layers", 1, "scale", 0),
        ("float_parameter_bytes",),
        ("formats", "qdq", "bytes"),
    ):
        forged = changed(bundle.manifest, place)
        onnx.helper.set_model_props(graph, {COPY: json.dumps(forged)})
        onnx.save(graph, bundle.directory / FOLDED)
        rewrite(bundle, forged)
        said = refusal(bundle)
        key = next(key for key in reversed(place) if isinstance(key, str))
        assert key in said and "but the ONNX files have " in said, said


def test_verify_names_a_doubled_scale(exported: Exported, tmp_path: Any) -> None:
    bundle = exported.copy(tmp_path)
    rewrite(bundle, changed(bundle.manifest, ("tensors", 2, "container_scale")))
    entry = bundle.manifest["tensors"][2]
    result = invoke("verify", bundle.directory)
    assert result.exit_code == 1 and result.stdout == "" and result.stderr.count("\n") == 1
    assert f"tensors[2: {entry['name']}].container_scale is {entry['container_scale'] * 2}" in result.stderr
    assert f"the ONNX files have {entry['container_scale']}" in result.stderr


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        (("target",), "gpu", "target 'gpu' is unknown"),
        (("outputs", 0), "logits", 'outputs[0] is "logits", but the ONNX files have "output"'),
        (("input", "name"), "x", 'input.name is "x"'),
        (("tensors", 0, "codes"), "nowhere", "codes is "),
        (("tensors", 0, "container"), "INT8", 'container is "INT8", but the ONNX files have "UINT8"'),
        (("layers", 0, "operator"), "Gemm", 'operator is "Gemm"'),
        (("layers", 0, "name"), "other", "layers has other layers"),
        (("classes",), ["a", "b"], "classes is "),
        (("license",), "MIT", "license is "),
        (("fold",), "integer", 'fold is "integer", but the copy in reference/folded.onnx have "strided"'),
    ],
)
def test_names_and_types_are_held_against_the_files(
    place: Path, value: object, says: str, exported: Exported, tmp_path: Any
) -> None:
    bundle = exported.copy(tmp_path)
    manifest = json.loads(json.dumps(bundle.manifest))
    inner = manifest
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    rewrite(bundle, manifest)
    assert says in refusal(bundle)


def test_an_older_bundle_has_no_copy(exported: Exported, tmp_path: Any) -> None:
    bundle = exported.copy(tmp_path)
    graph = onnx.load(bundle.directory / FOLDED)
    del graph.metadata_props[:]
    onnx.save(graph, bundle.directory / FOLDED)
    manifest = {key: value for key, value in bundle.manifest.items() if key not in ("sample", "float_parameter_bytes")}
    rewrite(bundle, manifest)
    assert lsq_export.verify(None, lsq_export.open_bundle(bundle.directory), exported.batches).ok
