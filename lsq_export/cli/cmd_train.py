"""lsq-export train: float pre-training, prepare, initialize, QAT; writes a checkpoint."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .output import console, print_json, print_table
from .train_options import Files, keeping_options, recipe_options, recipes

if TYPE_CHECKING:
    from lsq_export.training.distributed import Processes
    from lsq_export.training.job import FloatPhase, Job, LowBitPhase


def _bits_or_none(ctx: click.Context, param: click.Parameter, value: str) -> int | None:
    if value == "none":
        return None
    if value not in map(str, range(2, 9)):
        raise click.BadParameter(f"{value!r}: use 2 to 8, or none")
    return int(value)


@click.command("train")
@click.option(
    "--model",
    "model_name",
    required=True,
    metavar="NAME",
    help="resnet18, efficientnet_b0, mixnet_s, tiny, or package.module:factory for your own.",
)
@click.option("--data", "data_spec", required=True, metavar="SPEC", help="digits, imagefolder:DIR or npz:FILE.")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The checkpoint to write (.safetensors).",
)
@click.option(
    "--force", is_flag=True, help="Overwrite --out and what stands beside it; forget a run that was interrupted."
)
@click.option("--weight-bits", type=click.IntRange(2, 8), default=4, help="Width of weights.")
@click.option("--activation-bits", type=click.IntRange(2, 8), default=4, help="Width of activations.")
@click.option(
    "--first-last-bits",
    default="8",
    metavar="BITS",
    callback=_bits_or_none,
    help="Width of the first and last layer; none: like the rest.",
)
@click.option(
    "--grid",
    type=click.Choice(["unsigned-symmetric", "signed-symmetric", "signed-asymmetric", "unsigned-asymmetric"]),
    default="unsigned-asymmetric",
    help="Grid of activations: the LSQ+ configurations 1-4 (unsigned-symmetric is LSQ).",
)
@click.option(
    "--granularity",
    type=click.Choice(["tensor", "channel"]),
    default="tensor",
    help="One weight scale per tensor or per channel.",
)
@click.option(
    "--offset",
    type=click.Choice(["real", "integer", "container"]),
    default="real",
    help="Learned offsets: real, multiples of the scale, or of the steps of 8-bit containers.",
)
@click.option(
    "--edges",
    type=click.Choice(["calibrated", "trained"]),
    default="calibrated",
    help="8-bit grids of sums: made at export, or part of the training.",
)
@click.option(
    "--init-method",
    type=click.Choice(["minmax", "lsq", "mse"]),
    default="mse",
    help="How scales and offsets of activations start.",
)
@click.option(
    "--weight-init",
    type=click.Choice(["lsq+", "mse"]),
    default="lsq+",
    help="How weight scales start: the paper's rule, or least error.",
)
@click.option("--init-batches", type=click.IntRange(1), default=4, help="Batches that they start from.")
@click.option(
    "--epochs", type=click.IntRange(0), help="Epochs of low-bit training; 0: only initialize.  [default: the recipe's]"
)
@click.option(
    "--lr",
    type=click.FloatRange(0, min_open=True),
    help="Highest learning rate of low-bit training.  [default: the recipe's]",
)
@click.option(
    "--float-epochs",
    type=click.IntRange(0),
    help="Epochs of float training before it; 0: start from fresh weights.  [default: the recipe's]",
)
@click.option(
    "--float-lr",
    type=click.FloatRange(0, min_open=True),
    help="Highest learning rate of float training.  [default: the recipe's]",
)
@click.option(
    "--float-checkpoint",
    type=click.Path(path_type=Path),
    help="Start from this float checkpoint instead of training one.",
)
@click.option(
    "--float-out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the float model there, for --float-checkpoint.",
)
@click.option("--batch-size", type=click.IntRange(2), default=64, help="Samples per step.")
@click.option(
    "--image-size",
    type=click.IntRange(1),
    help="Height and width of images.  [default: 32 for digits, 224 for imagefolder]",
)
@recipe_options
@click.option("--seed", type=int, default=0, help="Of the weights and of the order of the data.")
@click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1, …  [default: cuda where there is one]")
@click.option(
    "--fused",
    is_flag=True,
    help="Low-bit training with compiled kernels: 10-15 % faster; needs a C++ compiler, and 10 s at the start.",
)
@click.option(
    "--save-memory", is_flag=True, help="Low-bit training in about the memory of float training, 5-10 % slower."
)
@keeping_options
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout, everything else on stderr.")
def command(float_checkpoint: Path | None, float_out: Path | None, as_json: bool, **options: Any) -> None:
    """Train a float model, then its low-bit form with learned scales and offsets (LSQ+).

    Ctrl-C keeps the last completed epoch of low-bit training in --out. --resume continues a run that was interrupted or
    killed, to the same bits. `torchrun --nproc-per-node N -m lsq_export train …` trains with N processes, on N GPUs
    where there are any."""
    files = Files.take(options)
    from lsq_export.training.distributed import launch

    with launch(options["device"]) as processes:
        _train(files, processes, float_checkpoint, float_out, as_json, options)


def _train(
    files: Files,
    processes: Processes,
    float_checkpoint: Path | None,
    float_out: Path | None,
    as_json: bool,
    options: dict[str, Any],
) -> None:
    """On every rank; the first one prints and writes."""
    files.check(float_out)
    processes.sums(0.0)  # all have looked before the first one writes
    from lsq_export.qat.kernels import fused_kernels
    from lsq_export.training.job import train_float, train_low_bit

    job = _job(**options)
    if job.fused:
        fused_kernels()  # a missing compiler shows before the float training, not after it
    data = job.load_data()
    run = files.run(job.identity(data, float_checkpoint, processes), processes)
    show: dict[str, Any] = {
        "console": console(stderr=as_json) if processes.first else None,
        "run": run,
        "processes": processes,
    }
    try:
        float_phase = train_float(job, data, start=float_checkpoint, out=float_out if processes.first else None, **show)
        low_bit = train_low_bit(job, data, float_phase.model, out=files.out if processes.first else None, **show)
    except KeyboardInterrupt:
        files.say_resume(processes)
        raise
    if not low_bit.interrupted:
        run.finish()
    if processes.first:
        if not low_bit.interrupted:
            files.draw(
                run.histories,
                f"{job.model_name} on {job.data_spec}, W{job.config.weight_bits}A{job.config.activation_bits}",
            )
        _print(job, files.out, float_phase, low_bit, as_json)
    if low_bit.interrupted:
        files.say_resume(processes)
        raise KeyboardInterrupt


def _print(job: Job, out: Path, float_phase: FloatPhase, low_bit: LowBitPhase, as_json: bool) -> None:
    accuracy = {"float": float_phase.accuracy, "initialized": low_bit.initialized_accuracy, "trained": low_bit.accuracy}
    if as_json:
        history = {
            "float_epochs": [asdict(e) for e in float_phase.epochs],
            "epochs": [asdict(e) for e in low_bit.epochs],
        }
        print_json(
            {
                "checkpoint": str(out),
                "config": job.config.to_dict(),
                "accuracy": accuracy,
                "interrupted": low_bit.interrupted,
                **history,
            }
        )
    else:
        title = f"Top-1 accuracy of {job.model_name} on the test split of {job.data_spec}, W{job.config.weight_bits}A{job.config.activation_bits}"
        print_table(title, ("model", ">accuracy"), [(name, f"{value:.2%}") for name, value in accuracy.items()])
        click.echo(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)")


def _job(
    *,
    weight_bits: int,
    activation_bits: int,
    first_last_bits: int | None,
    grid: Any,
    granularity: Any,
    offset: Any,
    edges: Any,
    **rest: Any,
) -> Job:
    """Options -> job. An option that was left out keeps the recipe's value."""
    from lsq_export.qat.prepare_model import QATConfig
    from lsq_export.training.job import Job

    float_recipe, recipe = recipes(rest)
    config = QATConfig(
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        activation_grid=grid,
        weight_granularity=granularity,
        first_last_bits=first_last_bits,
        offset=offset,
        edges=edges,
    )
    return Job(config=config, float_recipe=float_recipe, recipe=recipe, **rest)
