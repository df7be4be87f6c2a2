"""`lsq-export inspect`: the table and its JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import lsq_export
from lsq_export import models
from lsq_export.bundle.reading import Files
from lsq_export.inspection import tensors
from lsq_export.inspection.tensors import inspect_path
from lsq_export.training import checkpoint
from support.commands import invoke
from support.exported import Exported
from support.onnx_files import F32, build, node, qlinear_conv, weight


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    for name in ("qdq", "qoperator"):
        (tmp_path / name).mkdir()
        onnx.save(qlinear_conv(weight(gain=8), np.array([1, 2, 4, 8], F32)), tmp_path / name / "model.onnx")
    return tmp_path


run = partial(invoke, "inspect")


def test_command(bundle: Path) -> None:
    result = run(str(bundle))
    assert result.exit_code == 0, result.output
    assert result.stdout.count("4 quantized tensors") == 2
    assert str(bundle / "qdq" / "model.onnx") in result.stdout.replace("\n", "")
    assert "1 … 8 (4)" in result.stdout and "0 (4)" in result.stdout and "4 × 3 × 3 × 3" in result.stdout
    shown = json.loads(run(str(bundle / "qdq" / "model.onnx"), "--json").stdout)
    assert shown[0]["tensors"][1]["scale"] == [1, 2, 4, 8] and shown[0]["tensors"][1]["gain"] == 8


def test_what_most_programs_read_comes_first(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = lsq_export.open_bundle(exported.bundle.directory)
    path = next(iter(bundle.models.values()))
    for order in (("lookup", "qdq", "qoperator"), ("qdq", "qoperator", "lookup")):
        models = {name: path.parent.parent / name / path.name for name in order}
        monkeypatch.setattr(tensors, "open_bundle", lambda _, models=models: replace(bundle, models=models))
        monkeypatch.setattr(Files, "onnx", lambda *_: onnx.load(path))
        shown = [Path(entry["file"]).parent.name for entry in json.loads(run(str(bundle.directory), "--json").stdout)]
        assert shown == ["qoperator", "qdq", "lookup"]


def test_a_float_model_has_no_rows(tmp_path: Path) -> None:
    onnx.save(build([node("Relu", "x", "y")]), tmp_path / "f.onnx")
    assert inspect_path(tmp_path / "f.onnx")[0][1] == []
    shown = run(str(tmp_path / "f.onnx"))
    assert shown.exit_code == 0 and shown.stdout.endswith(
        "f.onnx: no tensor in it is quantized: it is a float network; lsq-export calibrate makes integers of it\n"
    )
    assert json.loads(run(str(tmp_path / "f.onnx"), "--json").stdout)[0]["tensors"] == []


@pytest.mark.parametrize("content", [b"", b"junk junk junk", b"\x08\x07"])
def test_a_damaged_file_is_one_line_and_2(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    result = run(str(tmp_path / "model.onnx"))
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert "model.onnx cannot be read as ONNX" in result.stderr


def test_json_of_numbers_and_names_that_json_does_not_have(exported: Exported, tmp_path: Path) -> None:
    model = exported.file("qoperator")
    node = next(node for node in model.graph.node if node.op_type == "QLinearConv")
    (scale,) = (tensor for tensor in model.graph.initializer if tensor.name == node.input[1])
    scale.CopyFrom(onnx.numpy_helper.from_array(np.float32(np.nan), scale.name))
    path = tmp_path / "model.onnx"
    name = node.input[0].encode()
    path.write_bytes(model.SerializeToString().replace(name, b"\xff" + name[1:]))
    result = invoke("inspect", path, "--json")
    assert result.exit_code == 0 and "NaN" not in result.stdout, result.stderr
    tensors = json.loads(result.stdout)[0]["tensors"]
    assert [None] in [tensor["scale"] for tensor in tensors]
    assert any(tensor["name"].startswith("\\xff") for tensor in tensors)


def test_our_own_checkpoints_say_their_bits(tmp_path: Path) -> None:
    """Those of networks that take code of yours do not, as this code does not run here; nor does a bare state_dict."""
    config = lsq_export.QATConfig(weight_bits=4, activation_bits=3)
    model, path = lsq_export.prepare(models.build("tiny", num_classes=4), config), tmp_path / "ours.safetensors"
    saved = {"model_spec": {"name": "tiny", "num_classes": 4}, "config": config.to_dict(), "input_shape": (3, 16, 16)}
    checkpoint.save(path, model, **saved, preprocessing={})
    result = run(str(path), "--json")
    assert result.exit_code == 0, result.stderr
    found = {f"{grid['place']}.{grid['role']}": grid["bits"] for grid in json.loads(result.stdout)[0]["grids"]}
    assert found["conv2.weight"] == 4 and found["conv2.input"] == 3 and found["conv1.weight"] == found["fc.input"] == 8
    assert {bits for name, bits in found.items() if name.startswith("edges.")} == {8}
    torch.save(model.state_dict(), tmp_path / "bare.pth")
    shown = run(str(tmp_path / "bare.pth")).stdout
    assert shown.endswith("?: the file does not say it; --bits N says how many bits such grids have\n")


def test_learned_grids_of_a_checkpoint(tmp_path: Path) -> None:
    front = "relu.act_quant.fused_activation_quant_proxy.tensor_quant"
    torch.save({f"{front}.scaling_impl.value": torch.tensor(7.5)}, tmp_path / "brevitas.pth")
    result = run(str(tmp_path / "brevitas.pth"))
    assert result.exit_code == 0, result.output
    assert "1 learned grid\n" in result.stdout and "Brevitas" in result.stdout and "?" in result.stdout
    (shown,) = json.loads(run(str(tmp_path / "brevitas.pth"), "--bits", "4", "--json").stdout)
    assert shown["grids"][0]["scale"] == [0.5] and shown["grids"][0]["high"] == [7.5]


def test_bits_are_for_checkpoints(bundle: Path) -> None:
    result = run(str(bundle), "--bits", "4")
    assert result.exit_code == 2 and "--bits is for checkpoints" in result.stderr
