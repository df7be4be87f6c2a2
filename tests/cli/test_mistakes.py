"""Mistakes on the command line and in Python: one line each, exit code 2, no traceback.

Those on the command line need no computation, so they are said without importing torch, which takes seconds on a busy
machine. `MISTAKES` runs in one process that never had it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import calib
import lsq_export
from calib.errors import QuantizationError
from lsq_export import data, models
from lsq_export.training import checkpoint
from support.exported import SHAPE, Exported

TRAIN = ["train", "--data", "digits", "--model", "tiny", "--out", "new.safetensors"]

# (arguments, what the line says); the files are those of `workplace`
MISTAKES: list[tuple[list[str], str]] = [
    # names
    (["exprot", "trained.safetensors"], "no command 'exprot'"),
    (["exprot", "trained.safetensors"], "(did you mean export?)"),
    ([*TRAIN, "--model", "tinny"], "model 'tinny' is unknown: use one of efficientnet_b0, mixnet_s, resnet18, tiny"),
    ([*TRAIN, "--model", "ResNet-18"], "(did you mean resnet18?)"),
    ([*TRAIN, "--model", "net.pth"], "(that is a file: give the name of the network)"),
    ([*TRAIN, "--model", "nets/own.py:build"], "write package.module:factory (nets.own:build?)"),
    ([*TRAIN, "--model", "own.py:build"], "write package.module:factory (own:build?)"),
    ([*TRAIN, "--model", "nowhere.net:build"], "there is no module 'nowhere.net' in "),
    (["demo", "--model", "resnet"], "(did you mean resnet18?)"),
    (["bench", "--model", "mixnet"], "(did you mean mixnet_s?)"),
    (["qat-speed", "--model", "vgg"], "model 'vgg' is unknown"),
    (["init-speed", "--model", "vgg"], "model 'vgg' is unknown"),
    (["export", "trained.safetensors", "--out", "new", "--target", "ort_cpu"], "(did you mean ort-cpu?)"),
    (["export", "trained.safetensors", "--out", "new", "--format", "qlinear"], "format 'qlinear' is unknown: use qdq"),
    (
        ["export", "trained.safetensors", "--out", "new", "--target", "native-low-bit", "--format", "qoperator"],
        "target native-low-bit does not read the format qoperator: use qdq",
    ),
    (["export", "trained.safetensors", "--out", "new", "--fold", "stride"], "fold 'stride' is not for the target"),
    # options
    ([*TRAIN, "--weight-bit", "4"], "No such option"),
    ([*TRAIN, "--weight-bits", "1"], "--weight-bits"),
    ([*TRAIN, "--weight-bits", "four"], "--weight-bits"),
    ([*TRAIN, "--first-last-bits", "16"], "use 2 to 8, or none"),
    ([*TRAIN, "--grid", "asymmetric"], "--grid"),
    ([*TRAIN, "--force", "--resume"], "--resume continues a run and --force starts anew"),
    ([*TRAIN, "--float-checkpoint", "nowhere.pth"], "checkpoint nowhere.pth does not exist"),
    ([*TRAIN, "--check"], "--check is for --float-checkpoint: give one, too"),
    ([*TRAIN, "--anyway"], "--anyway is for --float-checkpoint: give one, too"),
    (TRAIN[:-2], "Missing option '--out': give a name that ends in .safetensors, or --check"),
    ([*TRAIN, "--resize", "squash"], "'squash': use the pixels of the shorter side, or stretch"),
    ([*TRAIN, "--new-head"], "--new-head is for --float-checkpoint: give one, too"),
    ([*TRAIN, "--mean", "0.5;0.5"], "'0.5;0.5': use one number, or one for each channel"),
    (["train", "--model", "tiny", "--out", "new.safetensors"], "Missing option '--data'"),
    (["export", "trained.safetensors"], "Missing option '--out'"),
    (["verify", "out", "--images", "0"], "--images"),
    # data
    ([*TRAIN, "--data", "mnist"], "data 'mnist' is unknown: use digits, imagefolder:DIR, npz:FILE, npy:DIR"),
    ([*TRAIN, "--data", "digit"], "(did you mean digits?)"),
    ([*TRAIN, "--data", "pictures"], "(imagefolder:pictures, if it has one folder of images for each class)"),
    ([*TRAIN, "--data", "imagefolder:"], "a directory is missing after imagefolder:"),
    ([*TRAIN, "--data", "imagefolder:nowhere"], "image directory nowhere does not exist"),
    ([*TRAIN, "--data", "imagefolder:pictures"], "pictures has 1 class folder: two or more are needed"),
    ([*TRAIN, "--data", "npz:nowhere.npz"], "data file nowhere.npz does not exist"),
    ([*TRAIN, "--data", "npz:single.npy"], "single.npy is a single array (.npy)"),
    (["export", "other-data.safetensors", "--out", "new"], "data file gone.npz does not exist"),
    (["export", "no-data.safetensors", "--out", "new"], "no data is known for this model: give --data digits"),
    (["folds", "no-data.safetensors"], "no data is known for this model"),
    (["drift", "trained.safetensors", "--data", "mnist"], "data 'mnist' is unknown"),
    # files that are read
    (["export", "nowhere.safetensors", "--out", "new"], "checkpoint nowhere.safetensors does not exist"),
    (
        ["export", "out", "--out", "new"],
        "a bundle: verify, inspect, bench and report take that; for another target make it again, with --target",
    ),
    (["export", "pictures", "--out", "new"], "checkpoint pictures is not a file: name the checkpoint in it"),
    (["export", "out/qdq/model.onnx", "--out", "new"], "is an ONNX file, which is what export writes"),
    (["export", "net.pth", "--out", "new"], "checkpoint net.pth is a pickle (.pt, .pth), which can run code"),
    (["export", "cut.safetensors", "--out", "new"], "cut.safetensors is damaged or no safetensors file"),
    (["export", "float.safetensors", "--out", "new"], "float.safetensors is of a float model, which has no grids"),
    (["drift", "float.safetensors", "--data", "digits"], "float.safetensors is of a float model, which has no grids"),
    (["folds", "out"], "checkpoint out is not a file but a bundle"),
    (
        ["verify", "nowhere"],
        "bundle nowhere does not exist: give a directory that lsq-export export, calibrate or adopt wrote",
    ),
    (["verify", "trained.safetensors"], "is not a directory but a checkpoint: lsq-export export it first"),
    (["verify", "out/qdq/model.onnx"], "is not a directory but an ONNX file: give its bundle"),
    (["verify", "out/qdq"], "bundle out/qdq is a part of one: give out"),
    (["verify", "pictures"], "bundle pictures has no readable manifest.json"),
    (["report", "trained.safetensors"], "is not a directory but a checkpoint"),
    (["lint", "trained.safetensors"], "trained.safetensors is a checkpoint: lsq-export export makes the ONNX files"),
    (["inspect", "nowhere.onnx"], "nowhere.onnx does not exist"),
    (["bench"], "there is nothing to time: give ONNX files, a bundle, a checkpoint, or --model NAME"),
    (["bench", "nowhere.onnx"], "nowhere.onnx does not exist"),
    # files that are written
    ([*TRAIN, "--out", "trained.safetensors"], "--out trained.safetensors exists: give another name, or --force"),
    ([*TRAIN, "--out", "new.pt"], "--out new.pt: checkpoints are safetensors files, use new.safetensors"),
    ([*TRAIN, "--out", "nowhere/new.safetensors"], "the directory nowhere does not exist"),
    ([*TRAIN, "--curve", "curve.pdf"], "use a name that ends in .svg or .png"),
    ([*TRAIN, "--log", "new.safetensors"], "must be different files"),
    (["export", "trained.safetensors", "--out", "out"], "the output directory out is not empty"),
    (["export", "trained.safetensors", "--out", "pictures", "--force"], "is not empty and holds no bundle"),
    (["export", "trained.safetensors", "--out", "net.pth"], "the output net.pth is a file: give a directory"),
    (["export", "trained.safetensors", "--out", "net.pth/new"], "cannot be written: "),
    (["demo", "--out", "pictures"], "--out pictures is not empty"),
    (["bench", "out", "--json", "nowhere/x.json"], "there is no directory nowhere"),
    (
        ["drift", "trained.safetensors", "--data", "digits", "--reinit", "trained.safetensors"],
        "trained.safetensors exists",
    ),
]

RUN = """
import json, sys
from click.testing import CliRunner
from lsq_export.cli import cli
for arguments in json.load(sys.stdin):
    done = CliRunner().invoke(cli, arguments)
    print(json.dumps([done.exit_code, done.stdout, done.stderr, "torch" in sys.modules]))
"""


@pytest.fixture(scope="module")
def workplace(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a bundle `out`, checkpoints, a folder of pictures, and files of other kinds."""
    directory = tmp_path_factory.mktemp("workplace")
    exported.copy(directory)
    (directory / "bundle").rename(directory / "out")
    whole = exported.checkpoint.read_bytes()
    (directory / "trained.safetensors").write_bytes(whole)
    (directory / "cut.safetensors").write_bytes(whole[:-100])
    loaded = checkpoint.load(exported.checkpoint)
    for name, config, extra in (
        ("float", None, {}),
        ("no-data", loaded.config, {}),
        ("other-data", loaded.config, {"data": "npz:gone.npz"}),
    ):
        checkpoint.save(
            directory / f"{name}.safetensors",
            exported.model,
            model_spec=loaded.model_spec,
            config=config,
            input_shape=SHAPE,
            preprocessing={},
            extra=extra,
        )
    torch.save({"w": torch.zeros(2)}, directory / "net.pth")
    np.save(directory / "single.npy", np.zeros(3))
    (directory / "pictures" / "cats").mkdir(parents=True)
    return directory


@pytest.fixture(scope="module")
def said(workplace: Path) -> list[Any]:
    """(exit code, stdout, stderr, whether torch is imported by now) of each of MISTAKES, in order."""
    before = sorted(workplace.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        cwd=workplace,
        input=json.dumps([arguments for arguments, _ in MISTAKES]),
        capture_output=True,
        text=True,
        check=True,
    )
    assert sorted(workplace.rglob("*")) == before
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("index", range(len(MISTAKES)), ids=lambda index: " ".join(MISTAKES[index][0]))
def test_a_mistake_on_the_command_line_is_one_line_and_2(index: int, said: list[Any]) -> None:
    code, stdout, stderr, _ = said[index]
    assert (code, stdout) == (2, ""), stderr
    assert stderr.startswith("error: ") and stderr.count("\n") == 1 and MISTAKES[index][1] in stderr, stderr


def test_none_of_them_waits_for_torch(said: list[Any]) -> None:
    """Once it is imported, it stays: the first one that needs it is named."""
    slow = [" ".join(MISTAKES[index][0]) for index, line in enumerate(said) if line[3]]
    assert slow[:1] == [] and len(MISTAKES) >= 40


@pytest.mark.slow
def test_an_import_of_torch_is_seen(workplace: Path) -> None:
    arguments = json.dumps([[*TRAIN, "--device", "abacus"]])
    run = [sys.executable, "-c", RUN]
    done = subprocess.run(run, cwd=workplace, input=arguments, capture_output=True, text=True, check=True)
    code, _, stderr, imported = json.loads(done.stdout)
    assert code == 2 and "device 'abacus' is not available" in stderr and imported


# ---- in Python

Call = Callable[[Exported, Path], object]
X = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(0))
ZERO = torch.zeros(1, *SHAPE)
CONFIG = lsq_export.QATConfig()


def net() -> nn.Module:
    return models.build("tiny", num_classes=5, in_channels=SHAPE[0])


def initialize(batches: Any, **options: Any) -> object:
    return calib.initialize(lsq_export.prepare(net()), batches, **options)


def export(it: Exported, out: Path, **options: Any) -> object:
    return lsq_export.export(it.model, ZERO, out, **{"calibration": [X], **options})


def unfit() -> nn.Module:
    model = lsq_export.prepare(net())
    with torch.no_grad():
        model.conv2.parametrizations.weight.original[0] = torch.nan
    return model


PYTHON: dict[str, tuple[Call, str]] = {
    "prepare a class": (lambda it, out: lsq_export.prepare(nn.Linear), "float_model is the class Linear: give an "),
    "prepare a path": (lambda it, out: lsq_export.prepare("r18.safetensors"), "is the path r18.safetensors: give the"),
    "prepare swapped": (lambda it, out: lsq_export.prepare(CONFIG, net()), "swapped: prepare(model, config)"),
    "half afterwards": (
        lambda it, out: calib.initialize(lsq_export.prepare(net()).half(), [X]),
        "the model is float16 (conv1.input_quantizer.scale): use",
    ),
    "prepare twice": (lambda it, out: lsq_export.prepare(it.model), "the model is prepared already"),
    "a typo in a dict": (lambda it, out: lsq_export.prepare(net(), {"weight_bit": 4}), "unknown option 'weight_bit'"),
    "a number as config": (lambda it, out: lsq_export.prepare(net(), 4), "config is a int: give a QATConfig(…)"),
    "bits": (lambda it, out: lsq_export.QATConfig(weight_bits=16), "weight_bits=16: use 2 to 8"),
    "a float model": (lambda it, out: calib.initialize(net(), [X]), "call lsq_export.prepare(model, config) first"),
    "initialize swapped": (lambda it, out: calib.initialize([X], net()), "swapped: calib.initialize(model, batches)"),
    "a tensor for batches": (lambda it, out: initialize(X), "batches is a tensor: give an iterable of batches"),
    "a data set": (lambda it, out: initialize(data.load("digits")), 'give data.batches("train")'),
    "images one by one": (lambda it, out: initialize(list(X)), "without the batch dimension"),
    "uint8": (lambda it, out: initialize([(255 * X).byte()]), "batch 0 is uint8 of shape [4, 1, 16, 16]: give floats"),
    "channels last": (lambda it, out: initialize([X.permute(0, 2, 3, 1)]), "the channels are last here: conv1 takes"),
    "three channels": (lambda it, out: initialize([X.repeat(1, 3, 1, 1)]), "conv1 takes 1 channels, this has 3"),
    "a dict": (lambda it, out: initialize([{"pixel_values": X}]), "input_key='pixel_values'"),
    "another key": (lambda it, out: initialize([{"image": X}], input_key="x"), "has no 'x', its keys are image"),
    "arrays": (lambda it, out: initialize([X.numpy().astype(str)]), "batch 0 is an array of <U32: give tensors, or"),
    "all zero": (lambda it, out: initialize([torch.zeros(4, *SHAPE)]), "every value of its 4 samples is 0"),
    "NaN": (lambda it, out: initialize([X, X * torch.nan]), "batch 1 holds NaN or infinity in 4 of its 4 samples"),
    "nothing": (lambda it, out: initialize([]), "no calibration batches: the iterable is empty"),
    "used up": (lambda it, out: initialize(iter(())), "the iterator is used up, it can be read once only"),
    "batches of 0": (lambda it, out: initialize([X[:0]]), "the calibration data is empty"),
    "broken weights": (lambda it, out: calib.initialize(unfit(), [X]), "conv2.weight: values are not finite"),
    "export a path": (lambda it, out: lsq_export.export("a.pt", ZERO, out, calibration=[X]), "model is the path a.pt"),
    "export a state": (
        lambda it, out: lsq_export.export(it.model.state_dict(), ZERO, out, calibration=[X]),
        "as of state_dict(): build the network",
    ),
    "export swapped": (
        lambda it, out: lsq_export.export(it.model, out, ZERO, calibration=[X]),
        "another order than export(model, example_input, out, calibration=…)",
    ),
    "export without prepare": (
        lambda it, out: lsq_export.export(net(), ZERO, out, calibration=[X]),
        "the model has no quantizers: call lsq_export.prepare",
    ),
    "export without grids": (
        lambda it, out: lsq_export.export(lsq_export.prepare(net()), ZERO, out, calibration=[X]),
        "the quantizer has no grid yet; call calib.initialize",
    ),
    "an example without batch": (
        lambda it, out: lsq_export.export(it.model, ZERO[0], out, calibration=[X]),
        "conv1 gets an input of shape [1, 16, 16], without the batch dimension",
    ),
    "calibration of another shape": (
        lambda it, out: export(it, out, calibration=[X.permute(0, 2, 3, 1)]),
        "the channels are last; give x.permute(0, 3, 1, 2)",
    ),
    "calibration of dicts": (lambda it, out: export(it, out, calibration=[{"image": X}]), "input_key='image'"),
    "constant calibration": (lambda it, out: export(it, out, calibration=[torch.ones(4, *SHAPE)]), "is constant"),
    "a format": (lambda it, out: export(it, out, formats="qoperater"), "(did you mean qoperator?)"),
    "a target": (lambda it, out: export(it, out, target="ort"), "target 'ort' is unknown: use ort-cpu"),
    "out as a number": (lambda it, out: lsq_export.export(it.model, ZERO, 3, calibration=[X]), "out is a int"),
    "verify swapped": (
        lambda it, out: lsq_export.verify(it.bundle, it.model, [X]),
        "another order than verify(model, bundle, batches)",
    ),
    "verify batches for a bundle": (lambda it, out: lsq_export.verify(it.model, [X], it.bundle), "bundle is a list"),
    "verify a float model": (lambda it, out: lsq_export.verify(net(), it.bundle, [X]), "the model has no quantizers"),
    "verify a tensor": (lambda it, out: lsq_export.verify(None, it.bundle, X), "batches is a tensor"),
    "verify a pair": (
        lambda it, out: lsq_export.verify(None, it.bundle, (X, torch.zeros(4).long())),
        "batch 1 is int64 of shape [4]: inputs are floats [N, …]; give [(images, classes)]",
    ),
    "verify channels last": (
        lambda it, out: lsq_export.verify(None, it.bundle, [X.permute(0, 2, 3, 1)]),
        "the channels are last",
    ),
    "verify too few classes": (
        lambda it, out: lsq_export.verify(None, it.bundle, [(X, [1, 2])]),
        "batch 0 has 2 targets for 4 inputs",
    ),
    "data": (lambda it, out: data.load("digit"), "(did you mean digits?)"),
    "a network": (lambda it, out: models.build("resnet-18"), "(did you mean resnet18?)"),
    "open a checkpoint": (
        lambda it, out: lsq_export.open_bundle(it.checkpoint),
        "is no directory: give a directory that",
    ),
}


@pytest.mark.parametrize(("call", "says"), PYTHON.values(), ids=PYTHON)
def test_a_mistake_in_python_is_one_line(call: Call, says: str, exported: Exported, tmp_path: Path) -> None:
    with pytest.raises(QuantizationError) as error:
        call(exported, tmp_path / "out")
    assert says in str(error.value) and "\n" not in str(error.value), str(error.value)
    assert not (tmp_path / "out").exists()
