"""The commands one after another, as a user runs them: on real digits, and on a network of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import Result

import lsq_export
from lsq_export.cli.bundle_options import FROM_DATA
from lsq_export.data.loading import load
from lsq_export.training import checkpoint
from lsq_export.training.fit import predict
from lsq_export.verification.runtime import Session
from support.commands import invoke

pytestmark = pytest.mark.usefixtures("one_thread")
USERS_NET = """
from torch import nn

class Head(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.fc = nn.Linear(8, classes)
    def forward(self, x):
        return self.fc(x.mean((2, 3)))

def build(num_classes, in_channels):
    first = nn.Conv2d(in_channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()
    return nn.Sequential(*first, nn.Conv2d(8, 8, 3, 2, bias=False), Head(num_classes))
"""


def run(*arguments: object) -> Result:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pipeline")


@pytest.fixture(scope="module")
def trained(directory: Path) -> Path:
    out = directory / "tiny.safetensors"
    bits = ["--weight-bits", 3, "--activation-bits", 3, "--granularity", "channel"]
    run(
        "train",
        "--model",
        "tiny",
        "--data",
        "digits",
        "--image-size",
        16,
        *bits,
        "--float-epochs",
        1,
        "--epochs",
        1,
        "--device",
        "cpu",
        "--out",
        out,
    )
    return out


@pytest.fixture(scope="module")
def bundle(trained: Path, directory: Path) -> tuple[Path, Result]:
    out = directory / "out"
    return out, run("export", trained, "--out", out, "--images", 128, "-v")


def test_export(bundle: tuple[Path, Result]) -> None:
    out, result = bundle
    assert (
        "all promises hold" in result.stdout
        and "wrote" in result.stdout
        and str(out) in result.stdout.replace("\n", "")
    )
    assert "conv2.input" in result.stdout and "qoperator (ONNX Runtime)" in result.stdout
    assert result.stderr == f"{FROM_DATA}\nnext: lsq-export verify {out}\n"
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["source"]["data"] == "digits" and manifest["source"]["checkpoint"] == "tiny.safetensors"
    assert manifest["source"]["model"] == {"name": "tiny", "num_classes": 10, "in_channels": 3}
    known = manifest["source"]["accuracy"]  # what the training measured
    assert (known["data"], known["images"]) == ("digits", 359)
    accuracies = f"float {known['float_accuracy']:.2%} -> trained {known['trained_accuracy']:.2%}"
    assert f"accuracy       {accuracies} (359 test images of digits)" in result.stdout
    assert manifest["source"]["config"]["weight_bits"] == 3 and manifest["preprocessing"]["data"] == "digits"
    assert manifest["input"]["shape"] == ["batch", 3, 16, 16]
    assert manifest["classes"] == [str(digit) for digit in range(10)] and manifest["license"] is None
    assert manifest["sample"]["shape"] == [8, 8] and not manifest["sample"]["prepared"]
    label = int(load("digits", image_size=16).test.fetch(torch.tensor([0]))[1])
    assert manifest["sample"]["label"] == label
    assert [cost["fold"] for cost in manifest["folds"]] == [
        "strided",
        "integer",
    ] and "strided (chosen)" in result.stdout
    for cost in manifest["folds"]:
        assert (
            cost["images"] == 64
            and f"{cost['codes_differing']:.2%}" in result.stdout
            and f"{cost['sqnr_db']:.1f} dB" in result.stdout
        )
    assert all(f" {layer['accumulator']} " in result.stdout for layer in manifest["layers"])


def test_export_as_json(trained: Path, directory: Path) -> None:
    options = ("--format", "qoperator", "--images", 32, "--json", "--license", "Apache-2.0")
    result = run("export", trained, "--out", directory / "one", *options)
    assert json.loads(result.stdout)["ok"] is True and list(json.loads(result.stdout)["formats"]) == ["qoperator"]
    assert lsq_export.open_bundle(directory / "one").manifest["license"] == "Apache-2.0"


def test_verify(bundle: tuple[Path, Result], trained: Path) -> None:
    """On the whole test split, and accuracies that somebody else can compute from the files."""
    out, _ = bundle
    found = json.loads(run("verify", out, "--json").stdout)
    data = load("digits", image_size=16)
    assert found["ok"] is True and found["images"] == len(data.test) and found["split"] == "test"
    assert found["in_training"] == json.loads((out / "manifest.json").read_text())["source"]["accuracy"]
    x, y = data.test.fetch(torch.arange(len(data.test)))
    classes = Session(onnx.load(out / "qoperator" / "model.onnx")).run(x.numpy())["output"].argmax(1)
    expected = predict(checkpoint.restore(trained)[0], [x]).argmax(1).numpy()
    exported = found["formats"]["qoperator"]
    assert exported["accuracy"] == pytest.approx((classes == y.numpy()).mean())
    # torch and its captured graph: float32 ties
    assert found["trained_accuracy"] == pytest.approx((expected == y.numpy()).mean(), abs=1 / 359)
    assert exported["top1_agreement"] == pytest.approx((classes == expected).mean(), abs=1 / 359)
    assert exported["reference_mismatch"] == 0 and exported["top1_agreement"] > 0.8  # it has hardly learned anything
    assert run("verify", out, "--images", 5, "--data", "digits").stdout.count("5 images") == 1


def test_inspect(bundle: tuple[Path, Result]) -> None:
    out, _ = bundle
    shown = json.loads(run("inspect", out, "--json").stdout)
    assert [Path(entry["file"]).parent.name for entry in shown] == ["qoperator", "qdq"]
    for entry in shown:
        weights = [row for row in entry["tensors"] if row["kind"] == "weight"]
        assert [row["bits"] for row in weights[1:-1]] == [3] * 5 and all(row["axis"] == 0 for row in weights[:-1])
    assert "quantized tensors" in run("inspect", out / "qdq" / "model.onnx").stdout


@pytest.mark.slow
def test_bench(bundle: tuple[Path, Result]) -> None:
    out, _ = bundle
    rows = json.loads(run("bench", out, "--runs", 2, "--threads", 1, "--pause", 0, "--json", "-").stdout)["rows"]
    assert [row["name"] for row in rows] == ["float", "qdq", "qoperator"]


def test_report(bundle: tuple[Path, Result], tmp_path: Path) -> None:
    out, _ = bundle
    run("report", out, "--out", tmp_path / "page.html")
    assert "conv2.input" in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_demo(tmp_path: Path) -> None:
    """Everything in one command.

    (Whether a network that trained for one epoch agrees with its export is not the question.)
    """
    out = tmp_path / "demo"
    options = ["--model", "tiny", "--epochs", 1, "--float-epochs", 1, "--runs", 2, "--threads", 1]
    result = run("demo", *options, "--out", out, "-v")
    table = result.stdout.splitlines()
    for name in ("float", "trained (fake-quant)", "folded (float64)", "ONNX Runtime qdq", "ONNX Runtime qoperator"):
        assert any(line.startswith(name) for line in table), name
    assert "tiny W4A4 on 359 test digits" in result.stdout and "all promises hold" in result.stdout
    answer = table[1 : table.index("all promises hold") + 1]
    assert len(answer) <= 12 and answer[0] == "tiny W4A4 on 359 test images of digits" and "size, speed" in answer[4]
    assert json.loads((out / "bundle" / "bench.json").read_text())["rows"][0]["name"] == "float"
    assert "latency" in (out / "bundle" / "report.html").read_text() and "SHA256SUMS" not in result.stderr
    assert {p.name for p in out.iterdir()} == {
        *("bundle", "demo.json", "float.safetensors"),
        *("trained.safetensors", "trained.jsonl"),
    }
    written = json.loads((out / "demo.json").read_text())
    assert (
        written["parity"]["ok"] is True
        and written["parity"]["images"] == 359
        and written["parity"]["formats"]["qoperator"]["reference_mismatch"] == 0
    )
    assert [row["name"] for row in written["bench"]["rows"]] == ["float", "qdq", "qoperator"] and 0 < written[
        "float_accuracy"
    ] < 1
    assert lsq_export.open_bundle(out / "bundle").manifest["source"]["data"] == "digits"
    again = invoke("demo", "--out", str(out))
    assert (
        again.exit_code == 2 and "--force to replace an earlier demo" in again.stderr and again.stderr.count("\n") == 1
    )
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("ten years of work")
    kept = invoke("demo", "--out", str(tmp_path / "mine"), "--force")
    assert kept.exit_code == 2 and "holds no earlier demo" in kept.stderr


def console_script(cwd: Path, *commands: list[str]) -> subprocess.CompletedProcess[str]:
    """`lsq-export …`, one command after the other in one process.

    Unlike `python -m`, the console script does not put the current directory on the path by itself.
    """
    code = f"""
import sys
sys.path = [p for p in sys.path if p]
from lsq_export.cli import cli
for arguments in {commands!r}:
    try:
        cli.main(arguments, prog_name="lsq-export")
    except SystemExit as stop:
        assert not stop.code, (arguments[0], stop.code)
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "LSQ_EXPORT_"))}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_a_users_own_models_package(tmp_path: Path) -> None:
    """--model models.net:build finds theirs, in training and in export.

    `verify` needs the bundle alone.
    """
    project = tmp_path / "project"
    (project / "models").mkdir(parents=True)
    (project / "models" / "__init__.py").write_text("")
    (project / "models" / "net.py").write_text(USERS_NET)
    rng = np.random.default_rng(0)
    y = np.arange(48) % 3
    x = (rng.standard_normal((48, 2, 12, 12)) + y[:, None, None, None]).astype(np.float32)
    np.savez(project / "data.npz", x_train=x[:32], y_train=y[:32], x_test=x[32:], y_test=y[32:])
    data = ["--data", f"npz:{project / 'data.npz'}"]
    options = [
        "--epochs",
        "1",
        "--float-epochs",
        "1",
        "--weight-bits",
        "2",
        "--batch-size",
        "16",
        "--out",
        "net.safetensors",
        "--device",
        "cpu",
    ]
    commands = (
        ["train", "--model", "models.net:build", *data, *options],
        ["export", "net.safetensors", "--model", "models.net:build", "--out", "out"],
    )
    done = console_script(project, *commands)
    assert done.returncode == 0 and "wrote net.safetensors" in done.stdout and "all promises hold" in done.stdout, (
        done.stderr
    )
    manifest = json.loads((project / "out" / "manifest.json").read_text())
    assert manifest["source"]["model"] == {"name": "models.net:build", "num_classes": 3, "in_channels": 2}
    assert [layer["name"] for layer in manifest["layers"]] == ["0", "3", "4.fc"] and manifest["outputs"] == ["output"]
    assert "all promises hold" in run("verify", project / "out").stdout  # here, where there is no package `models`


@pytest.mark.parametrize(
    "command",
    [
        ("folds", "x.safetensors", "--out"),
        ("qat-speed", "--json"),
        ("init-speed", "--json"),
        ("bench", "x.onnx", "--json"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_the_work(command: tuple[str, ...], tmp_path: Path) -> None:
    result = invoke(*command, str(tmp_path / "no" / "file.json"))
    assert (
        result.exit_code == 2
        and "file.json cannot be written (there is no directory" in result.stderr
        and result.stderr.count("\n") == 1
    )
