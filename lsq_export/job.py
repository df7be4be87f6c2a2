"""The training side of the pipeline as one job: data -> float model -> prepare -> initialize -> QAT -> checkpoint.

job = Job("resnet18", "digits", QATConfig(weight_bits=4, activation_bits=4))
data = job.load_data()
float_phase = train_float(job, data)
low_bit = train_low_bit(job, data, float_phase.model, out=Path("r18.safetensors"))
low_bit.accuracy, low_bit.initialized_accuracy
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

import calib
from calib import drift
from calib.errors import QuantizationError

from . import checkpoint
from .data import Dataset, load
from .models import build, keywords
from .prepare import QATConfig, prepare
from .train import FINETUNE, PRETRAIN, Epoch, Recipe, TrainResult, evaluate, finetune, pretrain

if TYPE_CHECKING:
    from rich.console import Console

RECORDED = 4  # batches of the train split that the record of `calib.drift` is made from, after every epoch


@dataclass(frozen=True)
class Job:
    """Everything that decides the result. A recipe with 0 epochs skips that phase. device: None is CUDA where there is one."""

    model_name: str
    data_spec: str
    config: QATConfig = field(default_factory=QATConfig)
    float_recipe: Recipe = PRETRAIN
    recipe: Recipe = FINETUNE
    init_method: Any = "mse"
    weight_init: Any = "lsq+"
    init_batches: int = 4
    image_size: int | None = None
    seed: int = 0
    device: str | None = None

    def __post_init__(self) -> None:
        try:
            torch.empty(0, device=self.device or "cpu")
        except (RuntimeError, AssertionError) as error:
            raise QuantizationError(f"device {self.device!r} is not available here: use cpu, or leave it out") from error

    def load_data(self) -> Dataset:
        """The data set of `data_spec`."""
        return load(self.data_spec, image_size=self.image_size)

    def model_spec(self, data: Dataset) -> dict[str, Any]:
        """Keywords of `models.build`."""
        adapted = keywords(self.model_name, min(data.input_shape[1:]))
        return {"name": self.model_name, "num_classes": data.num_classes, "in_channels": data.input_shape[0], **adapted}


@dataclass(frozen=True)
class FloatPhase:
    """The float model and its accuracy on the test split, 0-1. epochs: those trained here."""

    model: nn.Module
    accuracy: float
    epochs: tuple[Epoch, ...]


@dataclass(frozen=True)
class LowBitPhase:
    """The fake-quant model; its accuracy on the test split, 0-1, right after initialization and at the end. interrupted: by Ctrl-C."""

    model: nn.Module
    initialized_accuracy: float
    accuracy: float
    epochs: tuple[Epoch, ...]
    interrupted: bool


def train_float(job: Job, data: Dataset, *, start: Path | None = None, out: Path | None = None, console: Console | None = None) -> FloatPhase:
    """Train a float model, or read it from the checkpoint `start`. out: checkpoint to write.

    Errors: KeyboardInterrupt (after writing the last completed epoch to `out`), QuantizationError.
    """
    epochs: tuple[Epoch, ...] = ()
    if start is not None:
        model = _restore_float(job, data, start)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(job.seed)
            model = build(**job.model_spec(data))
        if job.float_recipe.epochs:
            result = pretrain(model, data, recipe=job.float_recipe, seed=job.seed, device=job.device, console=console)
            epochs = result.epochs
            if result.interrupted:
                if epochs and out is not None:
                    _save(out, job, data, model, None, epochs)
                raise KeyboardInterrupt
    if out is not None:
        _save(out, job, data, model, None, epochs)
    return FloatPhase(model, evaluate(model.eval(), data.batches("test", 256)), epochs)


def train_low_bit(job: Job, data: Dataset, float_model: nn.Module, *, out: Path | None = None, console: Console | None = None) -> LowBitPhase:
    """Prepare, initialize and train. out: checkpoint, written after every epoch, so that it always holds the last good one.

    Errors: KeyboardInterrupt where it came before the end of the first epoch (nothing is written then), QuantizationError.
    """
    model = prepare(float_model, job.config)
    batches = data.batches("train", job.recipe.batch_size, shuffle=job.seed, limit=job.init_batches)
    calib.initialize(model, batches, method=job.init_method, weights=job.weight_init)
    initialized = evaluate(model.eval(), data.batches("test", 256))
    done: list[Epoch] = []

    def save(trained: nn.Module, epoch: int, metrics: Epoch) -> None:
        done.append(metrics)
        if out is not None:
            _save(out, job, data, trained, job.config, tuple(done))

    result: TrainResult | None = None
    if job.recipe.epochs:
        result = finetune(model, data, recipe=job.recipe, seed=job.seed, device=job.device, console=console, on_epoch=save)
        if result.interrupted and not result.epochs:
            raise KeyboardInterrupt
    elif out is not None:
        _save(out, job, data, model, job.config, ())
    return LowBitPhase(model, initialized, result.accuracy if result else initialized, tuple(done), bool(result and result.interrupted))


def _restore_float(job: Job, data: Dataset, path: Path) -> nn.Module:
    model, found = checkpoint.restore(path)
    if found.config is not None:
        raise QuantizationError(f"checkpoint {path} is of a low-bit model: give one of a float model (train --float-out writes it)")
    wanted = job.model_spec(data)
    for key, value in wanted.items():
        if found.model_spec.get(key, value) != value:
            raise QuantizationError(f"checkpoint {path} has a model with {key} {found.model_spec[key]!r}, this run needs {value!r}")
    if found.input_shape != data.input_shape:
        raise QuantizationError(
            f"checkpoint {path} has the input shape {found.input_shape}, {job.data_spec} has {data.input_shape}: set the image size"
        )
    return model


def _save(path: Path, job: Job, data: Dataset, model: nn.Module, config: QATConfig | None, epochs: tuple[Epoch, ...]) -> None:
    accuracy = epochs[-1].test_accuracy if epochs else None
    extra: dict[str, Any] = {"data": job.data_spec, "seed": job.seed, "epochs": len(epochs), "test_accuracy": accuracy}
    if config is not None:  # what the grids of this very state see: `lsq-export drift` compares other data with it
        extra[drift.RECORD] = drift.to_record(drift.measure(model, data.batches("train", job.recipe.batch_size, shuffle=job.seed, limit=RECORDED)))
    checkpoint.save(
        path,
        model,
        model_spec=job.model_spec(data),
        config=config.to_dict() if config else None,
        input_shape=data.input_shape,
        preprocessing=data.preprocessing,
        extra=extra,
    )
