"""The float phase of a job: a model that is trained here, read from a checkpoint, or left by an interrupted run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from calib.errors import QuantizationError, one_line
from lsq_export.data.dataset import Dataset
from lsq_export.data.description import describe
from lsq_export.qat.prepare_model import settings_of_layers

from .distributed import SINGLE, Processes
from .first_look import Look, first_look, say
from .fit import pretrain
from .job_settings import Job
from .phase import FLOAT, LOW_BIT, accuracy, fit_options, with_its_threads, write_checkpoint
from .predict import check_fit
from .recipe import Epoch
from .run import Run
from .start import adapted, fresh, started

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class FloatPhase:
    """The float model and its accuracy on the test split, 0-1.

    epochs: those trained here. start_accuracy: that of the checkpoint it started from, before them.
    """

    model: nn.Module
    accuracy: float
    epochs: tuple[Epoch, ...]
    start_accuracy: float | None = None


@with_its_threads
def train_float(
    job: Job,
    data: Dataset,
    *,
    start: Path | None = None,
    out: Path | None = None,
    console: Console | None = None,
    title: str = FLOAT,
    run: Run | None = None,
    processes: Processes = SINGLE,
) -> FloatPhase:
    """Train a float model for the epochs of the float recipe, from fresh weights or from those of `start`.

    start: a checkpoint of lsq-export, or any file that `load_weights` reads; `start.adapted` gives the job its variant.
    What the images are, what it holds, and its accuracy, are said on the console before the training.
    out: checkpoint to write.
    console, title: as in `fit`.
    run: keeps states and resumes from them.
    processes: all of them call this; out and console are for the first.

    Errors: KeyboardInterrupt (after writing the last completed epoch to `out`), QuantizationError.
    """
    if run is not None and run.saved is not None and run.saved.phase == LOW_BIT:
        say(console, describe(data))
        return _completed(job, data, run)
    epochs: tuple[Epoch, ...] = ()
    before: float | None = None
    first = started(job, data, start) if start is not None else None
    model = first.model if first is not None else fresh(job, data)
    settings_of_layers(model, job.config)  # what is wrong there shows before the training, not after it
    say(console, describe(data))
    if first is not None:
        resumed = run.results.get("start_accuracy") if run is not None else None
        before = first_look(first, job, data, console, processes).accuracy if resumed is None else resumed
    if run is not None:
        run.results["start_accuracy"] = before
    if first is None and not job.float_recipe.epochs:
        check_fit(model, data, torch.device("cpu"))  # else the first look or the training says it
    if job.float_recipe.epochs:
        options = fit_options(job, run, FLOAT, processes)
        result = pretrain(model, data, recipe=job.float_recipe, console=console, title=title, **options)
        epochs = result.epochs
        if result.interrupted:
            if epochs and out is not None:
                _write(out, job, data, model, epochs)
            raise KeyboardInterrupt
    if out is not None:
        _write(out, job, data, model, epochs)
    reached = before if before is not None and not epochs else accuracy(model, data, processes)
    if run is not None:
        run.results["float_accuracy"] = reached
    return FloatPhase(model, reached, epochs, before)


def look_at(job: Job, start: Path, console: Console | None = None) -> tuple[Dataset, Look]:
    """The data of the job, and what a float checkpoint is worth on them; nothing is trained or written.

    Errors (QuantizationError): as `train_float` before the training.
    """
    data = job.load_data()
    job = adapted(job, data, start)
    first = started(job, data, start)
    settings_of_layers(first.model, job.config)
    say(console, describe(data))
    return data, first_look(first, job, data, console, SINGLE)


def _write(out: Path, job: Job, data: Dataset, model: nn.Module, epochs: tuple[Epoch, ...]) -> None:
    measured = {"float_accuracy": epochs[-1].test_accuracy} if epochs else {}
    write_checkpoint(out, job, data, model, None, epochs, measured)


def _completed(job: Job, data: Dataset, run: Run) -> FloatPhase:
    """The float phase of a run that was interrupted after it.

    Its weights are only there where the low-bit phase needs them, as teacher.
    """
    model = fresh(job, data).eval()
    if job.recipe.distill:
        assert run.saved is not None
        try:
            model.load_state_dict(run.saved.state.part("teacher"))
        except RuntimeError as error:
            raise QuantizationError(f"the state does not fit the model ({one_line(error)}): start anew") from error
    before = run.results.get("start_accuracy")
    return FloatPhase(model, run.results["float_accuracy"], run.histories.get(FLOAT, ()), before)
