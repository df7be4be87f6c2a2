"""One run: float model (one for each network, trained once and kept) -> prepare -> initialize -> QAT -> accuracy.

The pieces are those of `lsq_export.training.job`, with two differences: the long test runs at the start and at the end,
not after each epoch, and configuration 1s changes quantizers between prepare and initialize.
"""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

import calib
from calib.errors import QuantizationError
from calib.initialization.first_grids import observe
from calib.quantized import quantized_modules
from calib.statistics.observers import Observer
from lsq_export import __version__
from lsq_export.bench.machine import processor
from lsq_export.data.dataset import Batches, Dataset, TensorSplit
from lsq_export.models import build
from lsq_export.qat.config import QATConfig
from lsq_export.qat.prepare_model import prepare
from lsq_export.qat.quantizer import Quantizer
from lsq_export.training import checkpoint
from lsq_export.training.fit import FINETUNE, PRETRAIN, Recipe, evaluate, finetune, pretrain
from lsq_export.training.job import Job
from lsq_export.training.predict import TEST_BATCH

from .data import hard_digits, load_folder
from .digits import HardDigits
from .plan import CONFIGURATIONS, Phase, Run, Settings
from .record import Result

SWISH_MIN = -0.2785  # x·sigmoid(x) >= -0.27846; a tensor that goes below is no output of Swish or ReLU
QUICK_TEST = 32  # images in the test after each epoch, which nothing depends on


def device() -> str:
    """CUDA where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@lru_cache(maxsize=1)
def load_data(data: str, hard: HardDigits | None, image_size: int | None) -> Dataset:
    """The data set of the settings with these fields."""
    return load_folder(data, image_size) if hard is None else hard_digits(hard)


def float_path(network: str, settings: Settings, directory: Path) -> Path:
    """Where the float model of a network lies."""
    return directory / f"{network}-{settings.float_digest}.safetensors"


def make_float(network: str, settings: Settings, directory: Path) -> None:
    """Train the float model of a network, if it is not there yet. The file appears whole or not at all."""
    path = float_path(network, settings, directory)
    if path.exists():
        return
    directory.mkdir(parents=True, exist_ok=True)
    data = load_data(settings.data, settings.hard, settings.image_size)
    job = Job(network, settings.data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.float_seed)
        model = _with_eps(build(**job.model_spec(data)), settings)
    result = pretrain(
        model, _quick(data), recipe=_recipe(PRETRAIN, settings.float_phase), seed=settings.float_seed, device=device()
    )
    if result.interrupted:
        raise KeyboardInterrupt
    checkpoint.save(
        path,
        model,
        model_spec=job.model_spec(data),
        config=None,
        input_shape=data.input_shape,
        preprocessing=data.preprocessing,
        extra={"settings": settings.to_dict()},
    )


def measure(run: Run, settings: Settings, directory: Path) -> Result:
    """Do one run, from the float model in `directory`.

    Errors: KeyboardInterrupt; QuantizationError (data, float model).
    """
    wall, cpu = time.perf_counter(), time.process_time()
    data, place = load_data(settings.data, settings.hard, settings.image_size), device()
    _, float_accuracy = _float_model(run.network, settings, directory)
    model, _ = first_model(run, settings, directory)
    recipe = _recipe(FINETUNE, settings.phase)
    initialized = evaluate(model, data.batches("test", TEST_BATCH))
    train_accuracy, diverged = None, None
    if recipe.epochs:
        try:
            trained = finetune(model, _quick(data), recipe=recipe, seed=run.seed, device=place)
            if trained.interrupted:
                raise KeyboardInterrupt
            train_accuracy = trained.epochs[-1].train_accuracy
        except QuantizationError as error:
            diverged = str(error)
    return Result(
        **asdict(run),
        float_accuracy=float_accuracy,
        initialized=initialized,
        trained=evaluate(model.to(place), data.batches("test", TEST_BATCH)),
        train_accuracy=train_accuracy,
        diverged=diverged,
        epochs=recipe.epochs,
        seconds=round(time.perf_counter() - wall, 2),
        cpu_seconds=round(time.process_time() - cpu, 2),
        settings=settings,
        commit=commit(),
        versions=versions(),
        machine=_machine(),
    )


def first_model(run: Run, settings: Settings, directory: Path) -> tuple[nn.Module, Batches]:
    """The low-bit model that training starts from, and the batches that its grids come from.

    Errors (QuantizationError): those of the data and of the float model.
    """
    data = load_data(settings.data, settings.hard, settings.image_size)
    float_model, _ = _float_model(run.network, settings, directory)
    calibration = data.batches("train", settings.phase.batch_size, shuffle=run.seed, limit=settings.init_batches)
    model = prepare(float_model, _config(run, settings)).to(device())
    if CONFIGURATIONS[run.configuration].signed_inputs:
        sign_inputs(model, calibration)
    calib.initialize(model, calibration, method=cast(Any, run.init))
    return model, calibration


def sign_inputs(model: nn.Module, batches: Iterable[Any]) -> list[str]:
    """Give signed codes to the layers whose inputs go below SWISH_MIN (configuration 1s).

    Returns the names of their quantizers.
    """
    seen = observe(model, batches)
    signed = []
    for name, quantizer in quantized_modules(model).items():
        values = seen.get(name)
        if quantizer.kind == "activation" and isinstance(values, Observer) and values.min < SWISH_MIN:
            layer = model.get_submodule(name.removesuffix("input").removesuffix("."))
            device = quantizer.scale.device
            layer.input_quantizer = Quantizer.activation(name, quantizer.bits, grid="signed-symmetric", device=device)
            signed.append(name)
    return signed


@lru_cache(maxsize=2)
def _float_model(network: str, settings: Settings, directory: Path) -> tuple[nn.Module, float]:
    """The float model and its accuracy on all test images."""
    data = load_data(settings.data, settings.hard, settings.image_size)
    model = _with_eps(checkpoint.restore(float_path(network, settings, directory))[0], settings).to(device())
    return model, evaluate(model, data.batches("test", TEST_BATCH))


def _with_eps(model: nn.Module, settings: Settings) -> nn.Module:
    """The model, with the ε of the settings in its batch norms (checkpoints do not hold it)."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and settings.norm_eps is not None:
            module.eps = settings.norm_eps
    return model


def _config(run: Run, settings: Settings) -> QATConfig:
    return QATConfig(
        weight_bits=run.bits,
        activation_bits=run.bits,
        activation_grid=cast(Any, CONFIGURATIONS[run.configuration].grid),
        first_last_bits=settings.first_last_bits,
        offset="real",  # as in the paper, which has no grids of edges
        edges="calibrated",
    )


def _recipe(base: Recipe, phase: Phase) -> Recipe:
    return replace(base, epochs=phase.epochs, lr=phase.lr, batch_size=phase.batch_size, clip_norm=phase.clip_norm)


def _quick(data: Dataset) -> Dataset:
    x, y = data.test.fetch(torch.arange(min(QUICK_TEST, len(data.test))))
    return replace(data, test=TensorSplit(x, y))


@lru_cache(maxsize=1)
def commit() -> str | None:
    """The commit of this checkout, with a + where files differ from it."""
    git = ["git", "-C", str(Path(__file__).parent)]
    how: Any = {"capture_output": True, "text": True, "check": True}
    try:
        head = subprocess.run([*git, "rev-parse", "--short=10", "HEAD"], **how).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "--untracked-files=no"], **how).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{head}+" if changed else f"{head}"


def versions() -> dict[str, str]:
    """The versions of what computes."""
    return {"lsq_export": __version__, "torch": str(torch.__version__), "python": platform.python_version()}


@lru_cache(maxsize=1)
def _machine() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{processor()}, {os.cpu_count()} cores"
