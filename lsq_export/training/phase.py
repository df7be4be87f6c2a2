"""What the phases of a job have in common: their names, options of `fit`, the test and the checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from torch import nn

from calib import drift
from lsq_export.data.dataset import Dataset
from lsq_export.qat.config import QATConfig
from lsq_export.threads import using_threads

from . import checkpoint
from .distributed import Processes
from .job_settings import Job
from .predict import TEST_BATCH, evaluate
from .recipe import Epoch
from .run import Run

FLOAT, LOW_BIT = "float", "low-bit"
P = ParamSpec("P")
Result = TypeVar("Result")
RECORDED = 4  # batches of the train split that the record of `calib.drift` is made from, after every epoch


def with_its_threads(
    phase: Callable[Concatenate[Job, P], Result],
) -> Callable[Concatenate[Job, P], Result]:
    """The phase, run with the threads of its job."""

    @wraps(phase)
    def run(job: Job, /, *args: P.args, **kwargs: P.kwargs) -> Result:
        with using_threads(job.threads or torch.get_num_threads()):
            return phase(job, *args, **kwargs)

    return run


def fit_options(
    job: Job, run: Run | None, phase: str, processes: Processes, teacher: nn.Module | None = None
) -> dict[str, Any]:
    """Those keywords of `fit` that both phases set in the same way. teacher: a model that the run has to keep."""
    options: dict[str, Any] = {"seed": job.seed, "device": job.device, "processes": processes}
    if run is not None:
        options |= {"state": run.state(phase), "keep": run.keep(phase, teacher), "keep_every": run.every}
    return options


def accuracy(model: nn.Module, data: Dataset, processes: Processes) -> float:
    """Accuracy on the test split, 0-1, in eval mode."""
    return evaluate(model.eval(), data.batches("test", TEST_BATCH, share=processes.share), processes=processes)


def write_checkpoint(
    path: Path,
    job: Job,
    data: Dataset,
    model: nn.Module,
    config: QATConfig | None,
    epochs: tuple[Epoch, ...],
    measured: Mapping[str, float | None],
) -> None:
    """Write the model after these epochs. config: None for a float model. measured: `float_accuracy` and
    `trained_accuracy` on the test split, as far as they are known; the tables of `export` and `verify` show them.

    A low-bit checkpoint also records what the grids of this very state see; `lsq-export drift` compares other data with
    it.
    """
    tested = epochs[-1].test_accuracy if epochs else None
    extra: dict[str, Any] = {"data": job.data_spec, "seed": job.seed, "epochs": len(epochs), "test_accuracy": tested}
    extra["accuracy"] = {**measured, "data": job.data_spec, "images": len(data.test)}
    if data.classes is not None:
        extra["classes"] = list(data.classes)
    extra["threads"] = torch.get_num_threads()
    if config is not None:
        batches = data.batches("train", job.recipe.batch_size, shuffle=job.seed, limit=RECORDED)
        extra[drift.RECORD] = drift.to_record(drift.measure(model, batches))
    checkpoint.save(
        path,
        model,
        model_spec=job.model_spec(data),
        config=config.to_dict() if config else None,
        input_shape=data.input_shape,
        preprocessing=data.preprocessing,
        extra=extra,
    )
