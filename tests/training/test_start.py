"""training.start: what `train --float-checkpoint` begins with, says and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from safetensors.torch import load_file, save_file
from torch import nn

from calib.errors import QuantizationError
from lsq_export import models
from lsq_export.training import checkpoint
from lsq_export.training.job import Job
from lsq_export.training.run import Run
from lsq_export.training.start import adapted
from support.commands import TINY_DIGITS, invoke

pytestmark = pytest.mark.usefixtures("one_thread")
_keep = Run.keep


class Own(nn.Module):
    """A network of a user's, which tells the two classes of `data` by the mean of the image."""

    def __init__(self, num_classes: int = 2) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(1, 4, 3, 2), nn.BatchNorm2d(4), nn.SiLU()
        self.head = nn.Linear(4, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.act(self.norm(self.conv(x))).mean((2, 3)))
        return logits


class Levels(nn.Module):
    """Three levels of pixels that were normalized with mean and std 0.5, told by the mean of the image."""

    VALUES = (0.2, 0.6, 0.9)

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(1, 3)
        levels = torch.tensor(self.VALUES)
        with torch.no_grad():
            self.fc.weight.copy_(2 * levels[:, None])
            self.fc.bias.copy_(-(levels**2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(x.mean((2, 3)) * 0.5 + 0.5)
        return logits


def own() -> nn.Module:
    torch.manual_seed(0)
    net = Own().eval()
    with torch.no_grad():
        net.conv.weight.fill_(1 / 9)
        net.head.weight.copy_(torch.tensor([[-1.0], [1.0]]).expand(2, 4))
        net.head.bias.copy_(torch.tensor([2.0, -2.0]))
    return net


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """48 images of 12x12 pixels, uint8: dark ones are class 0, bright ones class 1."""
    path = tmp_path_factory.mktemp("data") / "data.npz"
    y = np.arange(48) % 2
    x = np.random.default_rng(0).integers(0, 100, (48, 1, 12, 12)) + 100 * y[:, None, None, None]
    np.savez(path, x_train=x[:32].astype(np.uint8), y_train=y[:32], x_test=x[32:].astype(np.uint8), y_test=y[32:])
    return f"npz:{path}"


def train(data: str, out: Path, *more: object, model: str = f"{__name__}:Own") -> Result:
    short = "--model", model, "--data", data, "--out", out, "--epochs", 0, "--batch-size", 16, "--device", "cpu"
    return invoke("train", *short, "--init-method", "minmax", *more)


NORMALIZED = "--mean", "0.4", "--std", "0.1"


def write(kind: str, path: Path) -> Path:
    state = own().state_dict()
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "whole":
        torch.save(own(), path)
    else:
        torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}} if kind == "parallel" else state, path)
    return path


def test_every_kind_of_file_trains_to_the_same_bits_and_one_becomes_a_bundle(data: str, tmp_path: Path) -> None:
    """The same weights, as a plain state_dict, with prefixes in a wrapper, and in safetensors."""
    states = []
    for kind in ("plain", "parallel", "safetensors"):
        out = tmp_path / f"{kind}.q.safetensors"
        result = train(data, out, "--float-checkpoint", write(kind, tmp_path / kind), *NORMALIZED, "--epochs", 1)
        assert result.exit_code == 0, result.output
        assert f"weights of checkpoint {tmp_path / kind}: 9 tensors" in result.stderr.replace("\n", "")
        assert "on the test split" in result.stdout and "100.00%" in result.stdout and "warning" not in result.output
        states.append(load_file(out))
    assert all(torch.equal(value, other[name]) for other in states[1:] for name, value in states[0].items())
    own = ("--model", f"{__name__}:Own")
    exported = invoke("export", tmp_path / "plain.q.safetensors", *own, "--out", tmp_path / "out")
    verified = invoke("verify", tmp_path / "out", "--json")
    assert (exported.exit_code, verified.exit_code) == (0, 0), exported.output + verified.output
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["preprocessing"]["mean"], manifest["preprocessing"]["std"]) == ([0.4], [0.1])
    accuracies = {entry["accuracy"] for entry in json.loads(verified.stdout)["formats"].values()}
    assert accuracies == {1.0}  # the images were normalized there, too


def test_another_normalization_shows_before_the_training(data: str, tmp_path: Path) -> None:
    file = write("plain", tmp_path / "net.pth")
    stopped = train(data, tmp_path / "q.safetensors", "--float-checkpoint", file)
    assert stopped.exit_code == 2 and "initializing" not in stopped.stderr and not list(tmp_path.glob("q*"))
    says = "float accuracy 50.00% is hardly better than guessing among 2 classes (images 12×12 as they are; no mean"
    assert f"error: {says}" in stopped.stderr and "gives 100.00% on 16 of the test images" in stopped.stderr
    assert stopped.stdout == "" and stopped.stderr.splitlines()[-1].endswith("(--anyway) goes on with these weights")
    result = train(data, tmp_path / "q.safetensors", "--float-checkpoint", file, "--anyway")
    assert result.exit_code == 0 and f"warning: {says}" in result.stderr
    assert result.stderr.index("warning") < result.stderr.index("initializing")


def test_a_check_writes_nothing(data: str, tmp_path: Path) -> None:
    torch.save({"model": own().state_dict(), "best_acc1": torch.tensor(97.5)}, tmp_path / "net.pth")
    look = "train", "--model", f"{__name__}:Own", "--data", data, "--check"
    start = "--float-checkpoint", tmp_path / "net.pth"
    result = invoke(*look, *start, *NORMALIZED)
    assert result.exit_code == 0 and "warning" not in result.stderr, result.output
    assert result.stdout == "100.00% of 16 test images; nothing was trained or written (--check)\n"
    lines = result.stderr.splitlines()
    assert lines[0] == "images 12×12 as they are; mean 0.4, std 0.1; 32 train / 16 test"
    assert lines[2].endswith(": 100.00% (the file says best_acc1 97.50%)") and len(lines) == 3
    values = json.loads(invoke(*look, *start, *NORMALIZED, "--json", "--out", tmp_path / "q.safetensors").stdout)
    assert (values["float_accuracy"], values["images"]) == (1.0, 16)
    assert values["stated"] == {"name": "best_acc1", "accuracy": pytest.approx(0.975)}
    far = invoke(*look, *start)
    assert far.exit_code == 2 and "the file says best_acc1 97.50%" in far.stderr.splitlines()[-1]
    assert invoke(*look, *start, "--anyway").exit_code == 1  # 50.00% is not what the file says
    assert "--check is for --float-checkpoint" in invoke(*look).stderr
    assert "Missing option '--out'" in invoke(*look[:-1], *start).stderr
    assert [path.name for path in tmp_path.iterdir()] == ["net.pth"]


@pytest.mark.parametrize(
    ("stated", "right", "code"),
    [({}, False, 1), ({}, True, 0), ({"acc": 0.61}, False, 0), ({"acc": 0.1}, False, 1), ({"acc": 0.99}, False, 1)],
)
def test_an_accuracy_that_only_another_normalization_explains(
    stated: dict[str, float], right: bool, code: int, tmp_path: Path
) -> None:
    """60.00% with the wrong one: far better than guessing, and nothing in the file says that it is too little."""
    y = np.array([0, 1, 2, 2, 2] * 20)
    x = np.array(Levels.VALUES, np.float32)[y, None, None, None].repeat(4, 2).repeat(4, 3)
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    torch.save({"state_dict": Levels().state_dict(), **stated}, tmp_path / "net.pth")
    look = "train", "--model", f"{__name__}:Levels", "--data", f"npz:{tmp_path / 'data.npz'}", "--check", "--json"
    given = ("--mean", "0.5", "--std", "0.5") if right else ()
    result = invoke(*look, "--float-checkpoint", tmp_path / "net.pth", *given)
    assert result.exit_code == code, result.output
    values, warned = json.loads(result.stdout), [line for line in result.stderr.splitlines() if "warning" in line]
    assert values["float_accuracy"] == pytest.approx(1.0 if right else 0.6) and len(warned) == code
    expected = {"options": "--mean 0.5 --std 0.5", "accuracy": 1.0}
    assert values["better"] == (expected if code else None)
    if stated.get("acc") != 0.99 and code:
        assert "float accuracy 60.00% may be less than these weights can (images 4×4 as they are; no mean" in warned[0]
        says = "--mean 0.5 --std 0.5 gives 100.00% on 100 of the test images, and what is given here 60.00%"
        assert warned[0].endswith(f"{says}; use it if the network was trained so")


def test_a_new_head_is_trained(data: str, tmp_path: Path) -> None:
    torch.save(Own(num_classes=5).state_dict(), tmp_path / "five.pth")
    start = "--float-checkpoint", tmp_path / "five.pth"
    refused = train(data, tmp_path / "q.safetensors", *start)
    assert refused.exit_code == 2 and "has 5 classes and this network 2: new_head (--new-head)" in refused.stderr
    options = *start, "--new-head", *NORMALIZED, "--float-epochs", 2, "--float-out", tmp_path / "f.safetensors"
    result = train(data, tmp_path / "q.safetensors", *options, "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert set(summary["accuracy"]) == {"float checkpoint", "float", "initialized", "trained"}
    assert len(summary["float_epochs"]) == 2 and "warning" not in result.stderr
    trained = load_file(tmp_path / "f.safetensors")
    assert not torch.equal(trained["conv.weight"], torch.load(tmp_path / "five.pth", weights_only=True)["conv.weight"])
    # The float model of lsq-export itself goes on in the same way, also with a new head.
    for more, says in ((("--new-head", "--float-epochs", 0), "as freshly drawn"), ((), "float accuracy of")):
        again = "--float-checkpoint", tmp_path / "f.safetensors", *NORMALIZED, *more, "--force"
        assert says in train(data, tmp_path / "q.safetensors", *again).stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--new-head"], "--new-head is for --float-checkpoint"),
        (["--use-ema"], "--use-ema is for --float-checkpoint"),
        (["--float-checkpoint", "WHOLE"], "holds a whole model or other Python objects"),
        (["--float-checkpoint", "PLAIN", "--use-ema"], "holds no averaged weights (EMA)"),
        (["--float-checkpoint", "none.pth"], "checkpoint none.pth does not exist"),
        (["--float-checkpoint", "PLAIN", "--variant", "small"], "variant 'small' (--variant) is not one of model"),
        (["--mean", "gray"], "'gray': use one number"),
        (["--mean", "123.675"], "mean (--mean) is 123.675, and pixels are 0 to 1 here: divide it by 255"),
    ],
)
def test_what_cannot_be_used_is_one_line(options: list[str], says: str, data: str, tmp_path: Path) -> None:
    files = {kind.upper(): str(write(kind, tmp_path / kind)) for kind in ("plain", "whole")}
    result = train(data, tmp_path / "q.safetensors", *(files.get(option, option) for option in options))
    assert result.exit_code == 2 and says in result.stderr and result.stderr.count("\n") == 1, result.output
    assert not (tmp_path / "q.safetensors").exists()


def test_our_own_float_checkpoint_keeps_its_normalization(data: str, tmp_path: Path) -> None:
    out, file = tmp_path / "q.safetensors", tmp_path / "f.safetensors"
    assert train(data, out, "--float-epochs", 0, "--float-out", file, *NORMALIZED).exit_code == 0
    other = train(data, out, "--force", "--float-checkpoint", file, "--mean", "0.5", "--std", "0.1")
    assert other.exit_code == 2 and "with mean [0.4], this run has [0.5]: give the same --mean" in other.stderr
    with pytest.raises(QuantizationError, match=r"no lsq-export metadata.* --float-checkpoint takes it"):
        checkpoint.load(write("safetensors", tmp_path / "foreign"))
    with pytest.raises(QuantizationError, match=r"is a pickle .*--float-checkpoint reads the weights in it"):
        checkpoint.load(write("plain", tmp_path / "foreign"))


def test_the_content_of_the_checkpoint_is_part_of_a_runs_identity(data: str, tmp_path: Path) -> None:
    job, file = Job(f"{__name__}:Own", data), write("plain", tmp_path / "net.pth")
    loaded = job.load_data()
    before = job.identity(loaded, file)
    assert before == job.identity(loaded, file)
    torch.save({**own().state_dict(), "more": torch.zeros(1)}, file)
    after = job.identity(loaded, file)
    assert {name for name in before if before[name] != after[name]} == {"float_checkpoint"}
    assert after["float_checkpoint"].startswith(f"{file} (SHA-256 ")


def test_a_run_resumes_with_the_same_checkpoint_only(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in each of the two phases, after their first epoch."""
    file, other = write("plain", tmp_path / "net.pth"), own().state_dict()
    options = "--float-checkpoint", file, *NORMALIZED, "--float-epochs", 2, "--epochs", 2, "--ema", "0.5", "--json"
    whole = train(data, tmp_path / "whole.safetensors", *options)
    assert whole.exit_code == 0, whole.output
    for phase in ("float", "low-bit"):
        out = tmp_path / f"{phase}.safetensors"

        def keep(self: Run, name: str, *rest: Any, phase: str = phase) -> Any:
            write_state = _keep(self, name, *rest)

            def stop(state: Any) -> None:
                write_state(state)
                if name == phase and state.values["epoch"] == 1:
                    raise KeyboardInterrupt

            return stop

        with monkeypatch.context() as patch:
            patch.setattr(Run, "keep", keep)
            assert train(data, out, *options).exit_code == 130
        torch.save({**other, "head.bias": other["head.bias"] + 1}, file)
        refused = train(data, out, *options, "--resume")
        assert refused.exit_code == 2 and "the interrupted run had --float-checkpoint" in refused.stderr
        write("plain", file)
        resumed = train(data, out, *options, "--resume")
        assert resumed.exit_code == 0, resumed.output
        assert json.loads(resumed.stdout)["accuracy"] == json.loads(whole.stdout)["accuracy"]
        found, expected = load_file(out), load_file(tmp_path / "whole.safetensors")
        assert all(torch.equal(value, found[name]) for name, value in expected.items())


@pytest.mark.parametrize(("width", "variant"), [(1.0, "published"), (0.5, "small")])
def test_the_variant_is_that_of_the_file(width: float, variant: str, tmp_path: Path) -> None:
    """EfficientNet-B0 as timm publishes it has other shapes than ours for small images."""
    job = Job("efficientnet_b0", "digits", image_size=8)
    digits: Any = job.load_data()
    assert job.model_spec(digits)["width"] == 0.5
    torch.save(models.build("efficientnet_b0", num_classes=3, width=width).state_dict(), tmp_path / "net.pth")
    assert adapted(job, digits, tmp_path / "net.pth").variant == variant
    forced = Job("efficientnet_b0", "digits", image_size=8, variant="small")
    assert adapted(forced, digits, tmp_path / "net.pth") is forced


@pytest.mark.parametrize("option", ["--out", "--float-out"])
def test_the_float_checkpoint_is_not_overwritten(option: str, tmp_path: Path) -> None:
    """Not by another name of it either."""
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(b"mine")
    (tmp_path / "link.safetensors").symlink_to(mine)
    for name in ("mine", "link"):
        places = {"--out": tmp_path / "q.safetensors", option: tmp_path / f"{name}.safetensors"}
        arguments = [word for pair in places.items() for word in pair]
        result = invoke("train", *TINY_DIGITS, *arguments, "--float-checkpoint", mine, "--force")
        assert result.exit_code == 2 and "is the float checkpoint itself" in result.stderr, result.output
        assert mine.read_bytes() == b"mine"
