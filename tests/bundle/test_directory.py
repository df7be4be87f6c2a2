"""bundle: the layout of the contract, sums and golden vectors that others can check, and all or nothing on the disk."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn

import calib
import lsq_export
from calib.errors import QuantizationError
from lsq_export.bundle import whole_directory
from lsq_export.bundle.whole_directory import new_directory
from support.badnets import plain
from support.exported import SHAPE, Exported, content, images

GOLDEN = ("test_data_set_0/input_0.pb", "test_data_set_0/output_0.pb")
LAYOUT = {
    *(f"{name}/{file}" for name in ("qdq", "qoperator") for file in ("model.onnx", *GOLDEN)),
    *("reference/trained.onnx", "reference/folded.onnx", "manifest.json", "parity.json", "report.html", "SHA256SUMS"),
}


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """Two layers: quick to export."""
    torch.manual_seed(0)
    model = lsq_export.prepare(plain().eval())
    calib.initialize(model, [images(seed=0)[0]], method="minmax")
    return model


def export(model: nn.Module, out: Path, **options: Any) -> lsq_export.Bundle:
    return lsq_export.export(model, torch.zeros(1, *SHAPE), out, calibration=[images(seed=0)[0]], **options)


# What is in it


def test_layout(exported: Exported) -> None:
    assert set(content(exported.bundle.directory)) == LAYOUT
    assert exported.bundle.directory.stat().st_mode & 0o777 == 0o755


def test_sums(exported: Exported) -> None:
    """One line `<digest>  <path>` for every other file, as `sha256sum -c` reads it."""
    directory = exported.bundle.directory
    lines = (directory / "SHA256SUMS").read_text().splitlines()
    assert {line[66:] for line in lines} == LAYOUT - {"SHA256SUMS"} and lines == sorted(
        lines, key=lambda line: line[66:]
    )
    for line in lines:
        assert line == f"{hashlib.sha256((directory / line[66:]).read_bytes()).hexdigest()}  {line[66:]}"
    if program := shutil.which("sha256sum"):
        done = subprocess.run(
            [program, "--check", "--strict", "SHA256SUMS"], cwd=directory, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 and done.stdout.count(": OK") == len(lines), done.stderr


def test_manifest(exported: Exported) -> None:
    directory, manifest = exported.bundle.directory, exported.bundle.manifest
    assert manifest == json.loads((directory / "manifest.json").read_text())
    assert manifest["input"] == {"name": "input", "type": "float32", "shape": ["batch", *SHAPE]} and manifest[
        "outputs"
    ] == ["output"]
    assert (
        manifest["target"] == "ort-cpu"
        and manifest["source"] == {"data": exported.data}
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


def test_parity_and_report_belong_to_the_files(exported: Exported) -> None:
    parity = json.loads((exported.bundle.directory / "parity.json").read_text())
    assert parity["ok"] is True and parity["images"] == 24 and set(parity["formats"]) == {"qdq", "qoperator"}
    assert "conv2.input" in (exported.bundle.directory / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["qdq", "qoperator"])
def test_golden_vectors_reproduce(name: str, exported: Exported) -> None:
    """As ONNX's own test runner reads them: input_<i> and output_<i> belong to the model's i-th input and output."""
    directory = exported.bundle.directory / name
    session = onnxruntime.InferenceSession(directory / "model.onnx")
    ((x_name, x),), outputs = (
        [read(p) for p in sorted((directory / "test_data_set_0").glob(f"{kind}_*.pb"))] for kind in ("input", "output")
    )
    assert [x_name] == [i.name for i in session.get_inputs()] and [n for n, _ in outputs] == [
        o.name for o in session.get_outputs()
    ]
    assert x.dtype == np.float32 and x.shape == (2, *SHAPE) and np.array_equal(x, exported.inputs[:2])
    for (_, golden), found in zip(outputs, session.run(None, {x_name: x}), strict=True):
        assert golden.dtype == np.float32 and np.ptp(golden) > 0
        if name == "qoperator":
            assert np.array_equal(golden, found)
        else:  # float kernels; the convention of ONNX's test runner
            np.testing.assert_allclose(found, golden, rtol=1e-3, atol=1e-7)


def read(path: Path) -> tuple[str, np.ndarray]:
    tensor = onnx.TensorProto.FromString(path.read_bytes())
    return tensor.name, numpy_helper.to_array(tensor)


def test_the_same_model_gives_the_same_bytes(model: nn.Module, tmp_path: Path) -> None:
    """All files, twice in one process;

    there are no dates in them. The models also where the calibration data come in other portions.
    """
    first, second = (content(export(model, tmp_path / name).directory) for name in ("a", "b"))
    assert first == second
    portions = images(seed=0)[0].split(7)
    again = lsq_export.export(model, torch.ones(3, *SHAPE), tmp_path / "c", calibration=portions)
    for path in again.models.values():
        assert path.read_bytes() == first[str(path.relative_to(tmp_path / "c"))]


def test_open_bundle_reads_what_export_returned(exported: Exported) -> None:
    again = lsq_export.open_bundle(str(exported.bundle.directory))
    assert (
        again == replace(exported.bundle, parity=None)
        and set(again.models) == {"qdq", "qoperator"}
        and isinstance(again.directory, Path)
    )


def test_one_format_alone(model: nn.Module, tmp_path: Path) -> None:
    bundle = export(model, tmp_path / "out", formats=["qdq"])
    assert list(bundle.models) == ["qdq"] and not (bundle.directory / "qoperator").exists()
    assert set(content(bundle.directory)) == {name for name in LAYOUT if not name.startswith("qoperator")}
    assert lsq_export.verify(
        model, bundle, [images(seed=0)[0]]
    ).ok  # the golden vectors come from the integer reference all the same


# All or nothing


class Interrupt(Exception):
    """Whatever can happen in the middle of an export."""


def raising(at: str) -> Callable[[str], None]:
    def on_stage(stage: str) -> None:
        if stage == at:
            raise Interrupt(stage)

    return on_stage


@pytest.mark.parametrize("stage", ["capture", "bundle"])
@pytest.mark.parametrize("force", [False, True])
def test_an_exception_leaves_nothing_behind(
    stage: str, force: bool, model: nn.Module, exported: Exported, tmp_path: Path
) -> None:
    """With force, the bundle that was there stays as it was."""
    if force:
        exported.copy(tmp_path)
    before = content(tmp_path)
    with pytest.raises(Interrupt, match=stage):
        export(model, tmp_path / "bundle", force=force, on_stage=raising(stage))
    assert content(tmp_path) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_exception_in_the_last_step_leaves_nothing_behind(
    error: BaseException, model: nn.Module, exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def render(*args: Any) -> str:
        raise error

    monkeypatch.setattr("lsq_export.report.recording.render", render)
    exported.copy(tmp_path)
    before = content(tmp_path)
    with pytest.raises((KeyboardInterrupt, QuantizationError)) as caught:
        export(model, tmp_path / "bundle", force=True)
    assert content(tmp_path) == before
    assert isinstance(caught.value, KeyboardInterrupt) or "bundle cannot be written: No space left on device" in str(
        caught.value
    )


def fill(path: Path) -> None:
    (path / "manifest.json").write_text("{}")


def test_a_new_directory_appears_when_it_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "down" / "out"
    with new_directory(out, force=False) as directory:
        fill(directory)
        assert not out.exists() and directory.parent == out.parent
    assert set(content(out.parent)) == {"out/manifest.json", "out/SHA256SUMS"}


def test_an_empty_directory_is_taken(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with new_directory(tmp_path / "out", force=False) as directory:
        fill(directory)
    assert set(content(tmp_path)) == {"out/manifest.json", "out/SHA256SUMS"}


def test_force_replaces_all_of_an_old_bundle(exported: Exported, tmp_path: Path) -> None:
    exported.copy(tmp_path)
    with new_directory(tmp_path / "bundle", force=True) as directory:
        fill(directory)
        assert (tmp_path / "bundle" / "qdq").exists()
    assert set(content(tmp_path)) == {"bundle/manifest.json", "bundle/SHA256SUMS"}


@pytest.mark.parametrize("failing", [1, 2])
def test_the_old_bundle_comes_back_if_the_swap_fails(
    failing: int, exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported.copy(tmp_path)
    before, replace, calls = content(tmp_path), os.replace, []

    def fails_once(source: Any, target: Any) -> None:
        calls.append(target)
        if len(calls) == failing:
            raise OSError(5, "no luck")
        replace(source, target)

    with (
        pytest.raises(QuantizationError, match="bundle cannot be replaced: no luck"),
        new_directory(tmp_path / "bundle", force=True) as directory,
    ):
        (directory / "manifest.json").write_text("{}")
        monkeypatch.setattr(
            whole_directory.os,
            "replace",
            lambda a, b: replace(a, b) if Path(b).name == "SHA256SUMS" else fails_once(a, b),
        )
    assert content(tmp_path) == before


def not_empty(path: Path) -> Path:
    (path / "out").mkdir()
    (path / "out" / "thesis.txt").write_text("ten years of work")
    return path / "out"


def a_file(path: Path) -> Path:
    (path / "out").write_text("a file")
    return path / "out"


def below_a_file(path: Path) -> Path:
    return a_file(path) / "deeper"


def where_nobody_can_write(path: Path) -> Path:
    return Path("/proc/lsq-export-test/out")


@pytest.mark.parametrize(
    ("where", "force", "says"),
    [
        (not_empty, False, "is not empty: give another, or use --force"),
        (not_empty, True, "is not empty and holds no bundle, so it is not replaced"),
        (a_file, False, "is a file: give a directory"),
        (a_file, True, "is a file: give a directory"),
        (below_a_file, False, "cannot be written: "),
        (where_nobody_can_write, False, "cannot be written: "),
    ],
)
def test_a_place_that_cannot_be_used_is_named(
    where: Callable[[Path], Path], force: bool, says: str, model: nn.Module, tmp_path: Path
) -> None:
    """Before any work is done; and nothing there is touched."""
    out = where(tmp_path)
    before = content(tmp_path)
    stages: list[str] = []
    with pytest.raises(QuantizationError, match=says) as error:
        export(model, out, force=force, on_stage=stages.append)
    assert str(out) in str(error.value) and stages == [] and content(tmp_path) == before


def test_a_bundle_is_not_replaced_unasked(exported: Exported, model: nn.Module, tmp_path: Path) -> None:
    exported.copy(tmp_path)
    before = content(tmp_path)
    with pytest.raises(QuantizationError, match="is not empty"):
        export(model, tmp_path / "bundle")
    assert content(tmp_path) == before


def test_what_arrived_in_the_meantime_is_not_overwritten(tmp_path: Path) -> None:
    with (
        pytest.raises(QuantizationError, match="is not empty"),
        new_directory(tmp_path / "out", force=False) as directory,
    ):
        fill(directory)
        not_empty(tmp_path)
    assert set(content(tmp_path)) == {"out/thesis.txt"}
