"""lsq-export adopt: files of other tools from the command line, and what cannot be adopted, in one line each."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from lsq_export.cli.cmd_adopt import Adopted
from lsq_export.data.differences import input_shape_of
from support.adopted import SAMPLES, inputs
from support.broken_files import broken
from support.commands import invoke
from support.exported import Exported
from support.parities import parity_of

FILE = SAMPLES / "brevitas" / "qcdq_torchscript.onnx"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "data.npz"
    x = inputs().numpy()
    np.savez(path, x_train=x, y_train=np.arange(8) % 4, x_test=x + 0.1, y_test=np.arange(8) % 4)
    return path


def test_a_file_becomes_a_bundle_that_verifies(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "out"
    result = invoke("adopt", FILE, "--out", out, "--data", f"npz:{data}")
    assert result.exit_code == 0, result.stderr
    assert "qcdq_torchscript.onnx: adopted, outputs within" in result.stdout and "all promises hold" in result.stdout
    again = invoke("verify", out, "--json")
    assert again.exit_code == 0, again.stderr
    assert json.loads(again.stdout)["images"] == 8
    assert invoke("verify", out).stdout.startswith("qcdq_torchscript.onnx on 8 test images of npz:")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (None, ""),
        (0.0, ", outputs exactly what the file makes"),
        (2e-7, ", outputs within 2e-07 of their range of what"),
    ],
)
def test_how_near_it_is_is_said_in_words(exported: Exported, error: float | None, said: str) -> None:
    bundle = replace(exported.bundle, parity=parity_of(capture_error=error))
    found = Adopted(bundle=bundle, name="a.onnx", held="the file", left=()).nearness
    assert found.startswith(said) and bool(found) == bool(said)


def test_what_stays_float_is_named(tmp_path: Path, data: Path) -> None:
    file = SAMPLES / "amd-quark-onnx" / "a16w8.onnx"
    result = invoke("adopt", file, "--out", tmp_path / "out", "--data", f"npz:{data}", "--no-sample")
    assert result.exit_code == 0, result.stderr
    assert "stays float: relu_QuantizeLinear_Output (a grid of more than 8 bits)" in result.stdout


def test_open_sizes_become_those_of_the_data(tmp_path: Path, data: Path) -> None:
    result = invoke(
        "adopt", _broken(tmp_path, "open sizes"), "--out", tmp_path / "out", "--data", f"npz:{data}", "--no-sample"
    )
    assert result.exit_code == 0, result.stderr
    assert "the bundle of the size of these data: 3 x 16 x 16" in result.stderr
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert tuple(input_shape_of(manifest)) == (3, 16, 16)


def _broken(tmp_path: Path, what: str) -> Path:
    path, model = tmp_path / "net.onnx", onnx.load(FILE)
    if what == "a scale of zero":
        constants = {tensor.name: tensor for tensor in model.graph.initializer}
        quantize = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
        made = {node.output[0]: node for node in model.graph.node}
        if quantize.input[1] in constants:
            constants[quantize.input[1]].CopyFrom(onnx.numpy_helper.from_array(np.float32(0), quantize.input[1]))
        else:
            made[quantize.input[1]].attribute[0].t.CopyFrom(onnx.numpy_helper.from_array(np.float32(0)))
    elif what == "open sizes":
        model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    elif what == "a value that nothing makes":
        next(node for node in model.graph.node if node.op_type == "Relu").input[0] = "nowhere"
    elif what == "nodes in a circle":
        next(node for node in model.graph.node if node.op_type == "Relu").input[0] = model.graph.output[0].name
    else:
        return broken(FILE, path, what, "bn1.weight")
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("external data that is not there", "cannot be read as ONNX"),
        ("a scale of zero", "no positive number"),
        ("an operator set of the future", "operator set 99"),
        ("weights that are no numbers", "the constant bn1.weight has NaN"),
        ("nodes in a circle", "read each other in a circle"),
        ("a value that nothing makes", "nowhere"),
    ],
)
def test_files_that_cannot_be_adopted(tmp_path: Path, data: Path, what: str, said: str) -> None:
    result = invoke("adopt", _broken(tmp_path, what), "--out", tmp_path / "out", "--data", f"npz:{data}")
    assert result.exit_code == 2, result.stderr
    assert said in result.stderr and result.stderr.strip().count("\n") == 0
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("file", "spec", "said"),
    [
        (SAMPLES / "nowhere.onnx", None, "does not exist"),
        (SAMPLES, None, "is a directory"),
        (SAMPLES / "inputs.npz", None, "cannot be read as ONNX"),
        (SAMPLES / "aimet-torch" / "encodings.onnx", None, "it is a float network"),
        (SAMPLES / "mct" / "qat_mctq.onnx", None, "QuantizationFormat.FAKELY_QUANT"),
        (FILE, "digits", None),
    ],
)
def test_mistakes(tmp_path: Path, data: Path, file: Path, spec: str | None, said: str | None) -> None:
    result = invoke("adopt", file, "--out", tmp_path / "out", "--data", spec or f"npz:{data}")
    if said is None:  # digits are made in the size of the network
        assert result.exit_code == 0, result.stderr
        return
    assert result.exit_code == 2 and said in result.stderr and result.stderr.strip().count("\n") == 0
    assert not (tmp_path / "out").exists()
