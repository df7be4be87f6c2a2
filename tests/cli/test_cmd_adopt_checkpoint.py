"""lsq-export adopt --model: checkpoints of other libraries from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from support.adopted import SAMPLES, inputs
from support.commands import invoke
from support.other_libraries import BREVITAS

NET = "support.other_libraries:Net"
CHECKPOINT = SAMPLES / "brevitas" / "qat_state_dict.pt"
ONNX = SAMPLES / "brevitas" / "qcdq_torchscript.onnx"


@pytest.fixture
def data(tmp_path: Path) -> str:
    x = inputs().numpy()
    np.savez(tmp_path / "data.npz", x_train=x, y_train=np.arange(8) % 4, x_test=x + 0.1, y_test=np.arange(8) % 4)
    return f"npz:{tmp_path / 'data.npz'}"


@pytest.fixture
def mapping(tmp_path: Path) -> Path:
    (tmp_path / "brevitas.json").write_text(json.dumps(BREVITAS))
    return tmp_path / "brevitas.json"


def test_a_checkpoint_becomes_a_bundle_that_verifies(tmp_path: Path, data: str, mapping: Path) -> None:
    out = tmp_path / "out"
    result = invoke("adopt", CHECKPOINT, "--model", NET, "--mapping", mapping, "--data", data, "--out", out)
    assert result.exit_code == 0, result.stderr
    assert "qat_state_dict.pt: adopted, outputs " in result.stdout and "all promises hold" in result.stdout
    assert json.loads((out / "manifest.json").read_text())["source"]["library"] == "Brevitas"
    assert invoke("verify", out).exit_code == 0


def test_what_stays_float_is_named(tmp_path: Path, data: str) -> None:
    state = torch.load(SAMPLES / "nvidia-modelopt" / "w8a8_state_dict.pt", weights_only=True)
    torch.save({name: value for name, value in state.items() if "fc.weight_q" not in name}, tmp_path / "net.pt")
    (tmp_path / "map.json").write_text('{"activations": "signed"}')
    options = ("--mapping", tmp_path / "map.json", "--bits", 8, "--data", data, "--out", tmp_path / "out")
    result = invoke("adopt", tmp_path / "net.pt", "--model", NET, *options)
    assert result.exit_code == 0, result.stderr
    assert "not as ModelOpt has it: fc (it stays float: no grid for its weight)" in result.stdout


@pytest.mark.parametrize(
    ("file", "options", "said"),
    [
        (CHECKPOINT, (), "is a checkpoint, which has no network: give the float network"),
        (ONNX, ("--model", NET), "is an ONNX file, which has its network: leave --model out"),
        (ONNX, ("--bits", 4), "--bits is for checkpoints: give --model NAME, too"),
        (CHECKPOINT, ("--model", NET, "--bits", 4), "say where in [places] of a mapping file"),
        (CHECKPOINT, ("--model", "nowhere:Net"), "nowhere"),
        (CHECKPOINT, ("--model", NET, "--mapping", SAMPLES / "inputs.npz"), "is no JSON"),
        (SAMPLES / "nowhere.pt", ("--model", NET), "does not exist"),
    ],
)
def test_mistakes(file: Path, options: tuple[object, ...], said: str, tmp_path: Path, data: str) -> None:
    result = invoke("adopt", file, *options, "--data", data, "--out", tmp_path / "out")
    assert result.exit_code == 2 and said in result.stderr and result.stderr.strip().count("\n") == 0, result.stderr
    assert not (tmp_path / "out").exists()
