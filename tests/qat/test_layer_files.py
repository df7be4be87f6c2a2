"""qat.layer_files: wishes for layers in files and on the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from calib import QuantizationError
from lsq_export import QATConfig
from lsq_export.qat import layer_files
from lsq_export.training import checkpoint
from support.commands import invoke
from support.exported import Exported

WISHES = {"head": "float", "features.0*": {"weight_bits": 8, "activation_bits": 3, "offset": "container"}}
TOML = 'head = "float"\n"features.0*" = {weight_bits = 8, activation_bits = 3, offset = "container"}\n'


def test_the_three_ways_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "w.json").write_text(json.dumps(WISHES))
    (tmp_path / "w.toml").write_text(TOML)
    assert layer_files.read_file(tmp_path / "w.json") == WISHES
    assert layer_files.read_file(tmp_path / "w.toml") == WISHES
    options = ["head=float", "features.0*=weight_bits:8,activation_bits:3,offset:container"]
    assert layer_files.parse(options) == WISHES and list(layer_files.parse(options)) == list(WISHES)
    assert layer_files.parse([]) == {}


def test_a_number_is_the_bits_of_weight_and_input(tmp_path: Path) -> None:
    both = {"head": {"weight_bits": 8, "activation_bits": 8}}
    (tmp_path / "w.json").write_text('{"head": 8}')
    assert layer_files.parse(["head=8"]) == layer_files.read_file(tmp_path / "w.json") == both
    assert QATConfig(layers={"head": 8}).layers == both


def test_later_wishes_come_later() -> None:
    assert list(layer_files.parse(["a=float", "b=float", "a=weight_bits:4"])) == ["b", "a"]
    joined = layer_files.joined({"a": "float", "b": "float"}, {"a": {"weight_bits": 4}})
    assert joined == {"b": "float", "a": {"weight_bits": 4}} and list(joined) == ["b", "a"]


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("head", "--layer 'head': write head=float, head=8 or 'features.0*=weight_bits:8"),
        ("head=", "--layer 'head=': write"),
        ("head=fp", "--layer 'head=fp': 'fp' is no SETTING:VALUE"),
        ("head=16", "--layer layers['head']=16: use 2 to 8"),
        ("head=bits:4", "--layer layers['head']: unknown setting 'bits'"),
        ("head=weight_bits:x", "--layer layers['head']: weight_bits='x': use 2 to 8"),
    ],
)
def test_what_cannot_be_read_is_said(option: str, says: str) -> None:
    with pytest.raises(QuantizationError) as error:
        layer_files.parse([option])
    assert str(error.value).startswith(says)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("w.json", "{", "is no JSON"),
        ("w.json", "[" * 100_000, "is no JSON \\(it is nested too deep\\)"),
        ("w.json", '{"fc": "float", "fc": {"weight_bits": 3}}', "is no JSON \\(it has two values for 'fc'\\)"),
        ("w.toml", f"a = {'[' * 100_000}", "is no TOML"),
        ("w.toml", "=", "is no TOML"),
        ("w.json", "[]", "use a table"),
        ("w.toml", "[features]\n0 = {weight_bits = 8}", "a name with dots needs quotes"),
        ("none.json", None, "cannot be read"),
    ],
)
def test_a_bad_file_is_named(name: str, text: str | None, says: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(QuantizationError, match=says) as error:
        layer_files.read_file(path)
    assert str(error.value).startswith(f"--layers {path}") and "\n" not in str(error.value)


def test_python_without_toml_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "w.toml").write_text(TOML)
    for module in ("tomllib", "tomli"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(QuantizationError, match=r"install tomli, or write the table as \.json"):
        layer_files.read_file(tmp_path / "w.toml")


def test_train_takes_both_and_the_checkpoint_keeps_them(exported: Exported, tmp_path: Path) -> None:
    (tmp_path / "w.json").write_text(json.dumps({"conv1": "float", "fc": "float"}))
    out = tmp_path / "t.safetensors"
    short = ["--data", exported.data, "--epochs", "0", "--float-epochs", "0", "--init-batches", "1", "--out", out]
    command = ["train", "--model", "tiny", *short, "--layers", tmp_path / "w.json"]
    result = invoke(*command, "--layer", "fc=weight_bits:3")
    assert result.exit_code == 0, result.output
    assert "W4A4 (otherwise: conv1, fc)" in result.stdout
    _, found = checkpoint.restore(out)
    assert found.config is not None and found.config["layers"] == {"conv1": "float", "fc": {"weight_bits": 3}}
    result = invoke(*command, "--layer", "cnv2=float", "--force")
    assert result.exit_code == 2 and "did you mean conv2" in result.stderr and result.stderr.count("\n") == 1
