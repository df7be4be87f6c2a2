"""training.job: the job that the command does, and the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result

from calib.errors import QuantizationError
from lsq_export.data.loading import load
from lsq_export.qat.prepare_model import quantizers
from lsq_export.training import checkpoint, float_phase, low_bit_phase
from lsq_export.training.fit import evaluate
from lsq_export.training.job import Job, train_float
from support.commands import invoke


@pytest.fixture
def data(tmp_path: Path) -> str:
    """64 noisy images of two classes, 16x16."""
    rng = np.random.default_rng(0)
    y = np.arange(64) % 2
    x = rng.standard_normal((64, 3, 16, 16)).astype(np.float32) + y[:, None, None, None].astype(np.float32)
    np.savez(tmp_path / "data.npz", x_train=x[:48], y_train=y[:48], x_test=x[48:], y_test=y[48:])
    return f"npz:{tmp_path / 'data.npz'}"


def train(data: str, out: Path, *more: str) -> Result:
    arguments = [
        "train",
        "--model",
        "tiny",
        "--data",
        data,
        "--out",
        str(out),
        "--epochs",
        "2",
        "--float-epochs",
        "1",
        "--batch-size",
        "16",
        *more,
    ]
    return invoke(*arguments)


@pytest.mark.parametrize("device", ["", "cpu:7", "meta", "nothing", "cuda:99"])
def test_a_device_that_nothing_computes_on_is_refused(device: str, data: str, tmp_path: Path) -> None:
    result = train(data, tmp_path / "t.safetensors", "--device", device)
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert f"device {device!r} is not available here: use cpu, or leave it out" in result.stderr


def test_train_writes_a_checkpoint_that_restores(data: str, tmp_path: Path) -> None:
    out = tmp_path / "t.safetensors"
    result = train(
        data,
        out,
        "--weight-bits",
        "3",
        "--activation-bits",
        "2",
        "--first-last-bits",
        "none",
        "--json",
        "--device",
        "cpu",
    )
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert (
        set(summary["accuracy"]) == {"float", "initialized", "trained"}
        and len(summary["epochs"]) == 2
        and not summary["interrupted"]
    )
    model, found = checkpoint.restore(out)
    assert found.config is not None and found.extra["data"] == data and found.extra["epochs"] == 2
    kinds = {
        ("edge" if name.startswith("edges.") else name.rpartition(".")[2], quantizer.bits)
        for name, quantizer in quantizers(model).items()
    }
    assert kinds == {("input", 2), ("weight", 3), ("edge", 8)}
    test = load(data).batches("test", 16)
    # The file holds the trained model: the same number, only summed again.
    assert evaluate(model, test) == pytest.approx(summary["accuracy"]["trained"])


def test_table_and_no_overwriting(data: str, tmp_path: Path) -> None:
    out = tmp_path / "t.safetensors"
    result = train(data, out, "--epochs", "0", "--float-epochs", "0", "--init-method", "minmax", "--weight-init", "mse")
    assert (
        result.exit_code == 0 and "initialized" in result.stdout and f"wrote {out}" in result.stdout.replace("\n", "")
    )
    written = out.read_bytes()
    refused = train(data, out)
    assert refused.exit_code == 2 and "--force" in refused.stderr and out.read_bytes() == written
    assert train(data, out, "--epochs", "0", "--float-epochs", "0", "--force", "--seed", "1").exit_code == 0
    assert out.read_bytes() != written


@pytest.mark.slow
def test_float_checkpoint_is_where_training_starts(data: str, tmp_path: Path) -> None:
    first, second, float_file = tmp_path / "a.safetensors", tmp_path / "b.safetensors", tmp_path / "f.safetensors"
    one = train(data, first, "--float-out", str(float_file), "--json", "--device", "cpu")
    start = "--float-checkpoint", str(float_file), "--float-epochs", "0", "--anyway"
    two = train(data, second, *start, "--json", "--device", "cpu")
    assert (one.exit_code, two.exit_code) == (0, 0), two.output
    assert json.loads(one.stdout)["accuracy"] == json.loads(two.stdout)["accuracy"]
    states = checkpoint.load(first).state, checkpoint.load(second).state
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    low_bit = train(data, tmp_path / "c.safetensors", "--float-checkpoint", str(first))
    assert low_bit.exit_code == 2 and "low-bit model" in low_bit.stderr


def test_layers_are_looked_for_before_the_data_are_read(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_yet(self: Job) -> None:
        raise AssertionError("the data were read")

    monkeypatch.setattr(Job, "load_data", not_yet)
    result = train(data, tmp_path / "t.safetensors", "--layer", "fcc=float")
    assert result.exit_code == 2 and "--keep fcc matches no layer (did you mean fc?)" in result.stderr
    assert train(data, tmp_path / "t.safetensors", "--layer", "fc=float").exit_code == 70  # that layer is there


def test_one_phase_has_no_number_and_what_was_not_trained_no_row(data: str, tmp_path: Path) -> None:
    result = train(data, tmp_path / "t.safetensors", "--epochs", "0", "--float-epochs", "0")
    assert "low-bit training, 1 thread: initializing" in result.stderr and " of 1" not in result.stderr
    assert "initialized" in result.stdout and "\ntrained" not in result.stdout


@pytest.mark.slow
def test_a_network_above_float_had_more_epochs(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for reached, more, says in ((0.0, "2 more epochs", True), (0.0, "1 more epoch", True), (1.0, "", False)):
        monkeypatch.setattr(float_phase, "accuracy", lambda *a, reached=reached: reached)
        result = train(data, tmp_path / "t.safetensors", "--force", *(["--epochs", "1"] if "1" in more else []))
        said = f"trained is above float: it had {more} on these images" in result.stdout
        assert said is says and ("above float" in result.stdout) is says, result.output


@pytest.mark.parametrize(("option", "augmented"), [(None, True), ("--augment", True), ("--no-augment", False)])
def test_augmentation_has_a_switch(option: str | None, augmented: bool, data: str, tmp_path: Path) -> None:
    recipes: list[bool] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Job, "load_data", lambda job: recipes.extend([job.float_recipe.augment, job.recipe.augment]))
        train(data, tmp_path / "t.safetensors", *([option] if option else []))
    assert recipes == [augmented, augmented]


def test_ctrl_c_keeps_the_last_good_checkpoint(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "t.safetensors"
    finetune = low_bit_phase.finetune

    def stopped_after_one(model: Any, data: Any, *, on_epoch: Any, **options: Any) -> Any:
        def then_stop(*metrics: Any) -> None:
            on_epoch(*metrics)
            raise KeyboardInterrupt

        return finetune(model, data, on_epoch=then_stop, **options)

    monkeypatch.setattr(low_bit_phase, "finetune", stopped_after_one)
    result = train(data, out, "--epochs", "5")
    assert result.exit_code == 130 and result.stdout == "" and "Traceback" not in result.stderr
    kept = f"error: interrupted; epoch 1 of 5 is kept in {out}: the same command with --resume continues, --force "
    assert result.stderr.splitlines()[-1].startswith(kept), result.stderr
    assert checkpoint.restore(out)[1].extra["epochs"] == 1


def test_ctrl_c_before_the_first_epoch_writes_nothing(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(float_phase, "pretrain", stop)
    result = train(data, tmp_path / "t.safetensors")
    assert result.stderr.endswith("interrupted; no epoch was complete, so nothing is kept\n") and result.stdout == ""
    assert result.exit_code == 130 and not (tmp_path / "t.safetensors").exists()


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--model", "resnet99", "model 'resnet99' is unknown"),
        ("--data", "mnist", "data 'mnist' is unknown"),
        ("--out", "no/such/dir/t.safetensors", "the directory no/such/dir does not exist"),
        ("--device", "abacus", "device 'abacus' is not available"),
        ("--float-checkpoint", "none.safetensors", "checkpoint none.safetensors does not exist"),
    ],
)
def test_bad_input_is_named(option: str, value: str, says: str, data: str, tmp_path: Path) -> None:
    result = train(data, tmp_path / "t.safetensors", option, value)
    assert result.exit_code == 2 and says in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "t.safetensors").exists()


def test_a_float_checkpoint_of_another_shape_is_refused(data: str, tmp_path: Path) -> None:
    out = tmp_path / "f.safetensors"
    train(data, tmp_path / "t.safetensors", "--float-epochs", "0", "--epochs", "0", "--float-out", str(out))
    source = Job("tiny", "digits", image_size=24)
    with pytest.raises(QuantizationError, match="num_classes 2, this run needs 10"):
        train_float(source, source.load_data(), start=out)


@pytest.mark.parametrize("epochs", [("--epochs", "0", "--float-epochs", "0"), ("--epochs", "0")])
def test_a_network_for_other_channels_is_bad_input(
    epochs: tuple[str, ...], data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gray_net.py").write_text(
        "from torch import nn\n\n\ndef build(num_classes):\n"
        "    pool = nn.AdaptiveAvgPool2d(1)\n"
        "    return nn.Sequential(nn.Conv2d(1, 4, 3), pool, nn.Flatten(), nn.Linear(4, num_classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    result = train(data, tmp_path / "t.safetensors", "--model", "gray_net:build", *epochs)
    assert result.exit_code == 2 and "the model fails on a batch of two inputs of shape [3, 16, 16]" in result.stderr
    assert not (tmp_path / "t.safetensors").exists()
