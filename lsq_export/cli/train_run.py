"""Both phases of a training as `train` and `demo` run them: numbered, kept, resumed, with the same threads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .output import console
from .train_files import Files

if TYPE_CHECKING:
    from lsq_export.data.dataset import Dataset
    from lsq_export.progress import Phases
    from lsq_export.training.distributed import Processes
    from lsq_export.training.job import FloatPhase, Job, LowBitPhase
    from lsq_export.training.run import Run


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training gave. run: to be finished once nothing is left to resume."""

    float_phase: FloatPhase
    low_bit: LowBitPhase
    run: Run


def train_both(
    job: Job,
    data: Dataset,
    files: Files,
    processes: Processes,
    phases: Phases,
    *,
    start: Path | None = None,
    float_out: Path | None = None,
) -> Trained:
    """Train on every rank; the first one shows progress and writes.

    start: a float checkpoint. job: threads that it leaves open are those of the run that is resumed, or a number by the
    size of a step.

    Errors: `Interrupted`, which tells how to go on; QuantizationError.
    """
    from lsq_export.training.job import train_float, train_low_bit
    from lsq_export.training.start import adapted
    from lsq_export.training.step_threads import step_threads

    if start is not None and start.exists():
        job = adapted(job, data, start)
    job = replace(job, threads=job.threads or files.kept_threads or step_threads(job, data))
    run = files.run(job.identity(data, start, processes), processes, float_out)
    show: dict[str, Any] = {"run": run, "processes": processes}
    show["console"] = console(stderr=True) if processes.first else None
    of_float, of_low_bit = (float_out, files.out) if processes.first else (None, None)
    names = iter(_names(job))
    try:
        title = phases.next(next(names)) if job.float_recipe.epochs else ""
        float_phase = train_float(job, data, start=start, out=of_float, title=title, **show)
        title = phases.next(next(names))
        low_bit = train_low_bit(job, data, float_phase.model, out=of_low_bit, title=title, **show)
    except KeyboardInterrupt:
        raise files.interruption() from None
    return Trained(float_phase=float_phase, low_bit=low_bit, run=run)


def phases_of(job: Job) -> Phases:
    """The phases of a training: without float epochs there is only one."""
    from lsq_export.progress import Phases

    return Phases(len(_names(job)))


def _names(job: Job) -> list[str]:
    """Of the phases; the first one says the number of threads."""
    names = [*(["float training"] if job.float_recipe.epochs else []), "low-bit training"]
    names[0] += f", {job.threads} thread{'s' if job.threads != 1 else ''}"
    return names
