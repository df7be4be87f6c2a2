"""lsq-export demo: the main job on real digits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from calib.errors import QuantizationError
from lsq_export.qat.config import QATConfig

from .arguments import MODEL
from .demo_table import Result, print_models, speed
from .group import FAILED
from .output import console
from .parity_table import print_verdict
from .summary_lines import print_line, print_summary, verbose_option

if TYPE_CHECKING:
    from torch import nn

    from lsq_export.bench import BenchResult
    from lsq_export.bundle.directory import Bundle
    from lsq_export.data.dataset import Dataset
    from lsq_export.training.job import FloatPhase, Job, LowBitPhase
    from lsq_export.verification.parity import Parity

CALIBRATION_BATCHES = 8
DEFAULTS = QATConfig()


@click.command("demo")
@click.option(
    "--model",
    "model_name",
    default="resnet18",
    type=MODEL,
    metavar="NAME",
    help="Train resnet18, efficientnet_b0, mixnet_s, tiny, or package.module:factory for your own.",
)
@click.option(
    "--weight-bits", type=click.IntRange(2, 8), default=DEFAULTS.weight_bits, help="Quantize weights to this width."
)
@click.option(
    "--activation-bits",
    type=click.IntRange(2, 8),
    default=DEFAULTS.activation_bits,
    help="Quantize activations to this width.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default="demo-out",
    help="Write checkpoints, bundle and demo.json to this directory.",
)
@click.option("--force", is_flag=True, help="Replace an earlier demo in --out.")
@click.option("--epochs", type=click.IntRange(1), help="Train this many low-bit epochs.  [default: the recipe's]")
@click.option(
    "--float-epochs", type=click.IntRange(1), help="Train this many float epochs before that.  [default: the recipe's]"
)
@click.option("--seed", type=int, default=0, help="Draw the first weights and the order of the data from this.")
@click.option("--threads", type=click.IntRange(1), default=2, help="Let the timed sessions use this many threads.")
@click.option("--runs", type=click.IntRange(1), default=100, help="Time each model this many times.")
@verbose_option
def command(verbose: bool, **options: Any) -> None:
    """Train a network on real handwritten digits, export it, verify it on the whole test split, time it, and print what
    that cost and which promises hold.

    Exit code 1 if a promise does not hold.
    """
    given = Options(**options)
    result = _demo(given)
    _print(given, result, verbose=verbose)
    if not result.parity.ok:
        raise click.exceptions.Exit(FAILED)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line asks for; the names are those of the options."""

    model_name: str
    weight_bits: int
    activation_bits: int
    out: Path
    force: bool
    epochs: int | None
    float_epochs: int | None
    seed: int
    threads: int
    runs: int


def _demo(options: Options) -> Result:
    """Train, export, verify, time; everything lies in --out."""
    _prepare_directory(options.out, options.force)
    from lsq_export.bench import RunOptions, collect, compare
    from lsq_export.report.recording import record
    from lsq_export.training.job import train_float, train_low_bit

    show, out = console(stderr=True), options.out
    job = _job(options)
    data = job.load_data()
    float_phase = train_float(job, data, out=out / "float.safetensors", console=show)
    trained, known = out / "trained.safetensors", float_phase.accuracy
    low_bit = train_low_bit(job, data, float_phase.model, out=trained, console=show, float_accuracy=known)
    bundle = _export(low_bit, job, data, options, {"float_accuracy": known, "trained_accuracy": low_bit.accuracy})
    parity = _verify(low_bit.model, bundle, data)
    record(bundle, parity)
    with show.status("bench"):
        bench = compare(collect([bundle.directory]), RunOptions(runs=options.runs, threads=options.threads))
    record(bundle, parity, bench.to_dict())
    _write(out / "demo.json", low_bit.config.to_dict(), float_phase, parity, bench)
    return Result(float_phase=float_phase, bundle=bundle, parity=parity, bench=bench)


def _prepare_directory(out: Path, force: bool) -> None:
    """Before minutes of training, not after them."""
    if out.exists() and any(out.iterdir()):
        if not force:
            raise QuantizationError(
                f"--out {out} is not empty: give another directory, or --force to replace an earlier demo there"
            )
        if not (out / "float.safetensors").is_file():
            raise QuantizationError(
                f"--out {out} is not empty and holds no earlier demo, so nothing is replaced: give another directory"
            )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise QuantizationError(f"--out {out} cannot be made: {error.strerror}") from error


def _job(options: Options) -> Job:
    from lsq_export.training.fit import FINETUNE, PRETRAIN
    from lsq_export.training.job import Job

    # offset and edges: training sees what the fold rounds. TODO(defaults): leave both to QATConfig once these are its.
    config = QATConfig(
        weight_bits=options.weight_bits,
        activation_bits=options.activation_bits,
        offset="container",
        edges="trained",
    )
    float_recipe = replace(PRETRAIN, epochs=options.float_epochs or PRETRAIN.epochs)
    recipe = replace(FINETUNE, epochs=options.epochs or FINETUNE.epochs)
    return Job(options.model_name, "digits", config, float_recipe=float_recipe, recipe=recipe, seed=options.seed)


def _export(low_bit: LowBitPhase, job: Job, data: Dataset, options: Options, known: dict[str, float]) -> Bundle:
    """known: accuracies of the training, for the manifest."""
    from lsq_export.pipeline import export

    example, _ = next(iter(data.batches("test", 1)))
    source = {
        "model": job.model_spec(data),
        "config": low_bit.config.to_dict(),
        "checkpoint": "trained.safetensors",
        "data": "digits",
        "accuracy": {**known, "data": "digits", "images": len(data.test)},
    }
    with console(stderr=True).status("capture") as status:
        return export(
            low_bit.model,
            example,
            options.out / "bundle",
            calibration=data.batches("train", 64, shuffle=job.seed, limit=CALIBRATION_BATCHES),
            force=options.force,
            preprocessing=data.preprocessing,
            classes=data.classes,
            sample=data.sample(),
            source=source,
            on_stage=status.update,
        )


def _verify(model: nn.Module, bundle: Bundle, data: Dataset) -> Parity:
    from lsq_export.pipeline import verify
    from lsq_export.progress import bar

    batches = data.batches("test", 64)
    with bar(console(stderr=True), "verify", len(batches)) as advance:
        parity = verify(model, bundle, batches, progress=lambda images: advance(f"{images} images"))
    return replace(parity, data="digits", split="test")


def _write(path: Path, config: dict[str, Any], float_phase: FloatPhase, parity: Parity, bench: BenchResult) -> None:
    from lsq_export.files.text import write_json

    content = {
        "config": config,
        "float_accuracy": float_phase.accuracy,
        "parity": parity.to_dict(),
        "bench": bench.to_dict(),
    }
    write_json(path, content)


def _print(options: Options, result: Result, *, verbose: bool) -> None:
    from lsq_export.qat.bit_widths import bit_widths

    click.echo()
    print_summary(result.bundle.manifest, result.parity, speed=speed(result))
    print_line("files", f"{result.bundle.directory} (tables: report.html, or -v); checkpoints: {options.out}")
    print_verdict(result.parity)
    if verbose:
        widths = bit_widths(options.weight_bits, options.activation_bits)
        timing = f"latency: batch 1, {options.threads} threads, median of {options.runs}"
        click.echo()
        print_models(f"{options.model_name} {widths} on {result.parity.images} test digits; {timing}", result)
