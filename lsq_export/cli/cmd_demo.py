"""lsq-export demo: the main job on real digits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from calib.errors import QuantizationError
from lsq_export.verification.parity import NUDGED

from .group import FAILED
from .output import console, print_table
from .parity_table import codes, decibel, percent, print_verdict

if TYPE_CHECKING:
    from lsq_export.bench import BenchResult
    from lsq_export.bundle.directory import Bundle
    from lsq_export.training.job import FloatPhase, LowBitPhase
    from lsq_export.verification.parity import Parity

CALIBRATION_BATCHES = 8
COLUMNS = (
    "model",
    ">accuracy",
    ">top-1 agreement",
    ">SQNR",
    ">≠ integer reference",
    ">codes ≠ folded",
    ">file",
    ">latency",
    ">float / it",
)


@click.command("demo")
@click.option(
    "--model",
    "model_name",
    default="resnet18",
    metavar="NAME",
    help="resnet18, efficientnet_b0, mixnet_s, tiny, or package.module:factory for your own.",
)
@click.option("--weight-bits", type=click.IntRange(2, 8), default=4, help="Width of weights.")
@click.option("--activation-bits", type=click.IntRange(2, 8), default=4, help="Width of activations.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default="demo-out",
    help="Directory for checkpoints, bundle and demo.json.",
)
@click.option("--force", is_flag=True, help="Replace an earlier demo in --out.")
@click.option("--epochs", type=click.IntRange(1), help="Epochs of low-bit training.  [default: the recipe's]")
@click.option("--float-epochs", type=click.IntRange(1), help="Epochs of float training.  [default: the recipe's]")
@click.option("--seed", type=int, default=0, help="Of the weights and of the order of the data.")
@click.option("--threads", type=click.IntRange(1), default=2, help="Threads of the timed sessions.")
@click.option("--runs", type=click.IntRange(1), default=100, help="Timed runs of each model.")
def command(
    model_name: str,
    weight_bits: int,
    activation_bits: int,
    out: Path,
    force: bool,
    epochs: int | None,
    float_epochs: int | None,
    seed: int,
    threads: int,
    runs: int,
) -> None:
    """Train a network on real handwritten digits, export it, verify it on the whole test split, time it, and print one
    table.

    Exit code 1 if a promise does not hold.
    """
    _prepare_directory(out, force)
    from dataclasses import replace

    from lsq_export.bench import RunOptions, collect, compare
    from lsq_export.pipeline import export, verify
    from lsq_export.progress import bar
    from lsq_export.qat.prepare_model import QATConfig
    from lsq_export.report.recording import record
    from lsq_export.training.fit import FINETUNE, PRETRAIN
    from lsq_export.training.job import Job, train_float, train_low_bit

    show = console(stderr=True)
    # offset and edges: training sees what the fold rounds
    config = QATConfig(weight_bits=weight_bits, activation_bits=activation_bits, offset="container", edges="trained")
    recipes = (
        replace(PRETRAIN, epochs=float_epochs or PRETRAIN.epochs),
        replace(FINETUNE, epochs=epochs or FINETUNE.epochs),
    )
    job = Job(model_name, "digits", config, float_recipe=recipes[0], recipe=recipes[1], seed=seed)
    data = job.load_data()
    float_phase = train_float(job, data, out=out / "float.safetensors", console=show)
    low_bit = train_low_bit(job, data, float_phase.model, out=out / "trained.safetensors", console=show)
    example, _ = next(iter(data.batches("test", 1)))
    calibration = data.batches("train", 64, shuffle=seed, limit=CALIBRATION_BATCHES)
    with show.status("capture") as status:
        source = {
            "model": job.model_spec(data),
            "config": config.to_dict(),
            "checkpoint": "trained.safetensors",
            "data": "digits",
        }
        bundle = export(
            low_bit.model,
            example,
            out / "bundle",
            calibration=calibration,
            force=force,
            preprocessing=data.preprocessing,
            source=source,
            on_stage=status.update,
        )
    batches = data.batches("test", 64)
    with bar(show, "verify", len(batches)) as advance:
        parity = verify(low_bit.model, bundle, batches, progress=lambda n: advance(f"{n} images"))
    record(bundle, parity)
    with show.status("bench"):
        bench = compare(collect([bundle.directory]), RunOptions(runs=runs, threads=threads))
    _write(out / "demo.json", job.config.to_dict(), float_phase, parity, bench)
    click.echo()
    title = f"{model_name} W{weight_bits}A{activation_bits} on {parity.images} test digits; latency: batch 1, {threads} threads, median of {runs}"
    print_table(title, COLUMNS, _rows(float_phase, low_bit, bundle, parity, bench))
    click.echo()
    print_verdict(parity)
    click.echo(f"bundle: {bundle.directory} (report.html, manifest.json, parity.json); checkpoints: {out}")
    if not parity.ok:
        raise click.exceptions.Exit(FAILED)


def _prepare_directory(out: Path, force: bool) -> None:
    """Before minutes of training, not after."""
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


def _rows(
    float_phase: FloatPhase, low_bit: LowBitPhase, bundle: Bundle, parity: Parity, bench: BenchResult
) -> list[tuple[str, ...]]:
    times = {row.name: row for row in bench.rows}
    base = times["float"]
    rows: list[tuple[str, ...]] = [
        (
            "float",
            percent(float_phase.accuracy),
            "",
            "",
            "",
            "",
            f"{base.file_bytes / 1e6:.1f} MB",
            f"{base.median_ms:.2f} ms",
            "1.00",
        ),
        ("trained (fake-quant)", percent(parity.trained_accuracy), "", "", "", "", "", "", ""),
        (NUDGED, "", percent(parity.nudged_top1_agreement), decibel(parity.nudged_sqnr_db), "", "", "", "", ""),
        (
            "folded (float64)",
            percent(parity.folded_accuracy),
            percent(parity.folded_top1_agreement),
            decibel(parity.folded_sqnr_db),
            "",
            "",
            "",
            "",
            "",
        ),
    ]
    for name, f in parity.formats.items():
        size = f"{bundle.manifest['formats'][name]['bytes'] / 1e6:.1f} MB"
        timing = (f"{times[name].median_ms:.2f} ms", f"{base.median_ms / times[name].median_ms:.2f}")
        found = (
            percent(f.accuracy),
            percent(f.top1_agreement),
            decibel(f.sqnr_db),
            str(f.reference_mismatch),
            codes(f),
        )
        rows.append((f"ONNX Runtime {name}", *found, size, *timing))
    return rows


def _write(path: Path, config: dict[str, Any], float_phase: FloatPhase, parity: Parity, bench: BenchResult) -> None:
    from lsq_export.bundle.directory import write_text

    content = {
        "config": config,
        "float_accuracy": float_phase.accuracy,
        "parity": parity.to_dict(),
        "bench": bench.to_dict(),
    }
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
