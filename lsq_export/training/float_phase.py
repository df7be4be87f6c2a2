"""The float phase of a job: a model that is trained here, read from a checkpoint, or left by an interrupted run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from calib.errors import QuantizationError, one_line
from lsq_export.data.dataset import Dataset
from lsq_export.models import build
from lsq_export.qat.prepare_model import settings_of_layers

from . import checkpoint
from .distributed import SINGLE, Processes
from .fit import pretrain
from .job_settings import Job
from .phase import FLOAT, LOW_BIT, accuracy, fit_options, write_checkpoint
from .recipe import Epoch
from .run import Run

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class FloatPhase:
    """The float model and its accuracy on the test split, 0-1. epochs: those trained here."""

    model: nn.Module
    accuracy: float
    epochs: tuple[Epoch, ...]


def train_float(
    job: Job,
    data: Dataset,
    *,
    start: Path | None = None,
    out: Path | None = None,
    console: Console | None = None,
    run: Run | None = None,
    processes: Processes = SINGLE,
) -> FloatPhase:
    """Train a float model, or read it from the checkpoint `start`.

    out: checkpoint to write.
    run: keeps states and resumes from them.
    processes: all of them call this; out and console are for the first.

    Errors: KeyboardInterrupt (after writing the last completed epoch to `out`), QuantizationError.
    """
    if run is not None and run.saved is not None and run.saved.phase == LOW_BIT:
        return _completed(job, data, run)
    epochs: tuple[Epoch, ...] = ()
    if start is not None:
        model = _restored(job, data, start)
    else:
        model = _fresh(job, data)
        settings_of_layers(model, job.config)  # what is wrong there shows before the training, not after it
        if job.float_recipe.epochs:
            options = fit_options(job, run, FLOAT, processes)
            result = pretrain(model, data, recipe=job.float_recipe, console=console, **options)
            epochs = result.epochs
            if result.interrupted:
                if epochs and out is not None:
                    write_checkpoint(out, job, data, model, None, epochs)
                raise KeyboardInterrupt
    if out is not None:
        write_checkpoint(out, job, data, model, None, epochs)
    phase = FloatPhase(model, accuracy(model, data, processes), epochs)
    if run is not None:
        run.results["float_accuracy"] = phase.accuracy
    return phase


def _fresh(job: Job, data: Dataset) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        model: nn.Module = build(**job.model_spec(data))
    return model


def _completed(job: Job, data: Dataset, run: Run) -> FloatPhase:
    """The float phase of a run that was interrupted after it.

    Its weights are only there where the low-bit phase needs them, as teacher.
    """
    model = _fresh(job, data).eval()
    if job.recipe.distill:
        assert run.saved is not None
        try:
            model.load_state_dict(run.saved.state.part("teacher"))
        except RuntimeError as error:
            raise QuantizationError(f"the state does not fit the model ({one_line(error)}): start anew") from error
    return FloatPhase(model, run.results["float_accuracy"], run.histories.get(FLOAT, ()))


def _restored(job: Job, data: Dataset, path: Path) -> nn.Module:
    model, source = checkpoint.restore(path)
    if source.config is not None:
        raise QuantizationError(
            f"checkpoint {path} is of a low-bit model: give one of a float model (train --float-out writes it)"
        )
    for key, value in job.model_spec(data).items():
        if source.model_spec.get(key, value) != value:
            raise QuantizationError(
                f"checkpoint {path} has a model with {key} {source.model_spec[key]!r}, this run needs {value!r}"
            )
    if source.input_shape != data.input_shape:
        raise QuantizationError(
            f"checkpoint {path} has the input shape {source.input_shape}, {job.data_spec} has {data.input_shape}: set "
            "the image size"
        )
    return model
