"""The low-bit phase of a job: prepare, initialize, QAT."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

import calib
from lsq_export.data.dataset import Dataset
from lsq_export.progress import optional_bar, stages
from lsq_export.qat.fusing import fuse
from lsq_export.qat.memory import save_memory
from lsq_export.qat.prepare_model import QATConfig, config_of, prepare, quantizers

from .distributed import SINGLE, Processes
from .fit import finetune
from .job_settings import Job
from .phase import LOW_BIT, accuracy, fit_options, with_its_threads, write_checkpoint
from .recipe import Epoch
from .run import Run

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, kw_only=True)
class LowBitPhase:
    """The fake-quant model, and its accuracy on the test split, 0-1.

    config: that of the job, with edges="auto" resolved.
    initialized_accuracy: right after initialization. accuracy: at the end. interrupted: by Ctrl-C.
    """

    model: nn.Module
    config: QATConfig
    initialized_accuracy: float
    accuracy: float
    epochs: tuple[Epoch, ...]
    interrupted: bool


@with_its_threads
def train_low_bit(
    job: Job,
    data: Dataset,
    float_model: nn.Module,
    *,
    out: Path | None = None,
    console: Console | None = None,
    title: str = "QAT",
    run: Run | None = None,
    processes: Processes = SINGLE,
) -> LowBitPhase:
    """Prepare, initialize and train.

    out: checkpoint, written after every epoch, so that it always holds the last good one.
    console, title: as in `fit`. run, processes: see `train_float`.

    Errors: QuantizationError; KeyboardInterrupt before the end of the first epoch (nothing is written then).
    """
    model = prepare(float_model, job.config, example=torch.zeros(2, *data.input_shape))
    config = config_of(model) or job.config
    if run is not None and run.state(LOW_BIT) is not None:  # the state has the grids
        initialized = run.results["initialized_accuracy"]
    else:
        with _progress(console, title, len(quantizers(model)), job.init_batches) as advance:
            initialized = _initialize(job, data, model, advance, processes)
    before: tuple[Epoch, ...] = ()
    if run is not None:
        before, run.results["initialized_accuracy"] = run.histories.get(LOW_BIT, ()), initialized
    done = list(before)

    def write(trained: nn.Module) -> None:
        if out is not None:
            measured = _measured(run, done[-1].test_accuracy if done else initialized)
            write_checkpoint(out, job, data, trained, config, tuple(done), measured)

    def save(trained: nn.Module, epoch: int, metrics: Epoch) -> None:
        done.append(metrics)
        write(trained)

    result = None
    if job.recipe.epochs:
        teacher = float_model if job.recipe.distill else None
        options = fit_options(job, run, LOW_BIT, processes, teacher) | {"console": console, "title": title}
        fuse(model, job.fused)
        if job.save_memory:
            save_memory(model)
        result = finetune(model, data, recipe=job.recipe, teacher=teacher, on_epoch=save, **options)
        fuse(model, False)
        if result.interrupted and not result.epochs:
            raise KeyboardInterrupt
    if len(done) == len(before):
        write(model)  # nothing was left to train
    return LowBitPhase(
        model=model,
        config=config,
        initialized_accuracy=initialized,
        accuracy=result.accuracy if result else initialized,
        epochs=tuple(done),
        interrupted=bool(result and result.interrupted),
    )


def _measured(run: Run | None, tested: float) -> dict[str, float | None]:
    """Accuracies on the test split, for the checkpoint. The float model's is known to a run."""
    known = run.results.get("float_accuracy") if run is not None else None
    return {"float_accuracy": known, "trained_accuracy": tested}


def _initialize(
    job: Job, data: Dataset, model: nn.Module, advance: Callable[[str], None], processes: Processes
) -> float:
    """Give every quantizer its first grid, the same in every process. Returns the accuracy on the test split.

    advance: called after each of them.
    """
    size, limit = job.recipe.batch_size, job.init_batches
    batches = data.batches("train", size, shuffle=job.seed, limit=limit, share=processes.share)
    calib.initialize(model, batches, job.init_method, job.weight_init, processes.observer, progress=advance)
    processes.check_same(model)
    return accuracy(model, data, processes)


@contextmanager
def _progress(console: Console | None, title: str, grids: int, batches: int) -> Iterator[Callable[[str], None]]:
    """What to call after each grid: hundreds of them take minutes.

    It shows a bar; where there is no terminal, one line before the first grid, and more if it takes long.
    """
    work = f"{title}: initializing {grids} grids on {batches} batches"
    done = count(1)
    # A count instead of names: names come from several threads, in no order, and would take the room of the bar.
    if console is not None and not console.is_terminal:
        console.print(work, markup=False)
        with stages(console, work) as stage:
            yield lambda name: stage(f"{next(done)} done")
        return
    with optional_bar(console, work, grids) as advance:
        yield lambda name: advance(f"{next(done)}")
