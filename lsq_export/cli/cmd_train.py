"""lsq-export train: float pre-training, prepare, initialize, QAT; writes a checkpoint."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from calib.words import counted

from .arguments import DATA, MODEL
from .checkpoint_options import checkpoint_options, normalization_options, take_start
from .layer_options import layer_options
from .options import FilePath
from .output import print_json, print_table, say
from .train_check import check_only, take_job
from .train_files import Files, keeping_options
from .train_options import (
    machine_options,
    phase_options,
    quantization_options,
    recipe_options,
)
from .train_run import phases_of, train_both

if TYPE_CHECKING:
    from lsq_export.training.distributed import Processes
    from lsq_export.training.job import FloatPhase, Job, LowBitPhase


@click.command("train")
@click.option(
    "--model",
    "model_name",
    required=True,
    type=MODEL,
    metavar="NAME",
    help="Train resnet18, efficientnet_b0, mixnet_s, tiny, or package.module:factory for your own.",
)
@click.option(
    "--data",
    "data_spec",
    required=True,
    type=DATA,
    metavar="SPEC",
    help="Train on digits, imagefolder:DIR, npz:FILE or package.module:function (batches with classes).",
)
@click.option(
    "--out",
    type=FilePath(path_type=Path, dir_okay=False),
    help="Write the checkpoint to this file (.safetensors). Required, but with --check.",
)
@click.option(
    "--force", is_flag=True, help="Overwrite --out and the files beside it; forget a run that was interrupted."
)
@quantization_options
@layer_options
@phase_options
@checkpoint_options
@normalization_options
@recipe_options
@machine_options
@keeping_options
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout, everything else on stderr.")
def command(float_out: Path | None, as_json: bool, **options: Any) -> None:
    """Train a float model, then its low-bit form with learned scales and offsets (LSQ+).

    Ctrl-C keeps the last completed epoch of low-bit training in --out. --resume continues a run that was interrupted or
    killed, to the same bits. `torchrun --nproc-per-node N -m lsq_export train …` trains with N processes, on N GPUs
    where there are any.
    """
    if options["check"] or options["out"] is None:
        check_only(options, as_json)
        return
    files = Files.take(options)
    files.check(float_out)  # Here, too: torch need not be imported to know it.
    start = take_start(options, files.resume)
    files.check_start(start, float_out)
    del options["check"]
    from lsq_export.training.distributed import launch

    with launch(options["device"]) as processes:
        files.check(float_out)
        processes.sums(0.0)  # Every process has looked before the first one writes.
        _train(files, processes, take_job(options), start, float_out, as_json)


def _train(
    files: Files,
    processes: Processes,
    job: Job,
    start: Path | None,
    float_out: Path | None,
    as_json: bool,
) -> None:
    """Train on every rank; the first one prints and writes."""
    from lsq_export.qat.kernels import fused_kernels

    if job.fused:
        fused_kernels()  # A missing compiler shows before the float training, not after it.
    data = job.load_data()
    trained = train_both(job, data, files, processes, phases_of(job), start=start, float_out=float_out)
    low_bit, run = trained.low_bit, trained.run
    if not low_bit.interrupted:
        run.finish()
    if processes.first:
        if not low_bit.interrupted:
            files.draw(run.histories, f"{job.model_name} on {job.data_spec}, {_widths(job)}")
        if as_json or not low_bit.interrupted:  # no table of a run that is not complete; the JSON says so
            _print(job, files.out, trained.float_phase, low_bit, as_json)
    if low_bit.interrupted:
        raise files.interruption(written=len(low_bit.epochs))


def _print(job: Job, out: Path, float_phase: FloatPhase, low_bit: LowBitPhase, as_json: bool) -> None:
    accuracy = {"float": float_phase.accuracy, "initialized": low_bit.initialized_accuracy, "trained": low_bit.accuracy}
    if float_phase.start_accuracy is not None and float_phase.epochs:
        accuracy = {"float checkpoint": float_phase.start_accuracy, **accuracy}
    if as_json:
        print_json(
            {
                "checkpoint": str(out),
                "config": low_bit.config.to_dict(),
                "accuracy": accuracy,
                "interrupted": low_bit.interrupted,
                "float_epochs": [asdict(epoch) for epoch in float_phase.epochs],
                "epochs": [asdict(epoch) for epoch in low_bit.epochs],
            }
        )
    else:
        title = f"Top-1 accuracy of {job.model_name} on the test split of {job.data_spec}, {_widths(job)}"
        if not low_bit.epochs:
            del accuracy["trained"]  # nothing was
        print_table(title, ("model", ">accuracy"), [(name, f"{value:.2%}") for name, value in accuracy.items()])
        if low_bit.epochs and low_bit.accuracy > float_phase.accuracy:
            more = len(low_bit.epochs)
            say(f"trained is above float: it had {counted(more, 'more epoch')} on these images")
        say(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)")
        say(f"next: {_export_command(job, out)}")


def _export_command(job: Job, out: Path) -> str:
    """With what `export` needs: code of the user's own runs only where they name it."""
    from lsq_export.models.own import is_own

    model = ["--model", job.model_name] if is_own(job.model_name) else []
    return shlex.join(["lsq-export", "export", str(out), *model, "--out", str(out.with_suffix(""))])


def _widths(job: Job) -> str:
    from lsq_export.qat.bit_widths import widths_of

    return widths_of(job.config.to_dict())
