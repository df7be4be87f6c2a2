"""lsq-export folds: what each way of folding real offsets costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .output import OutputFile, console, print_json, print_table
from .parity_table import decibel, percent

COLUMNS = ("checkpoint", "bits", "fold", ">codes that differ", ">SQNR", ">agreement", ">accuracy", ">trained")


@click.command("folds")
@click.argument("checkpoints", metavar="CHECKPOINT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--data",
    "data_spec",
    metavar="SPEC",
    help="Data to calibrate (train split) and to compare on (test split).  [default: the checkpoint's]",
)
@click.option("--images", type=click.IntRange(1), default=512, help="Training images to calibrate on.")
@click.option(
    "--bias-correction",
    is_flag=True,
    help="Every fold also with biases corrected on those images (export --bias-correction).",
)
@click.option("--out", type=OutputFile(), help="Write the numbers there as JSON, beside the table.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON on stdout.")
def command(
    checkpoints: tuple[Path, ...],
    data_spec: str | None,
    images: int,
    bias_correction: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Compare naive rounding of offsets, the integer fold and the strided fold against the trained model.

    "codes that differ" are those of the learned activation quantizers, end to end: rounding of residual sums to 8 bits
    is in it, too."""
    import torch

    from lsq_export.bundle.directory import write_json
    from lsq_export.progress import bar
    from lsq_export.training.checkpoint import restore
    from lsq_export.verification.fold_costs import FOLDS, compare_folds

    from .data_options import load_data

    found: list[dict[str, Any]] = []
    for path in checkpoints:
        model, checkpoint = restore(path)
        data = load_data(data_spec or checkpoint.extra.get("data"), checkpoint.input_shape, option="--data")
        calibration = data.batches("train", min(images, 64), shuffle=0, limit=-(-images // min(images, 64)))
        test = data.batches("test", 64)
        example, folds = torch.zeros(1, *checkpoint.input_shape), len(FOLDS) * (2 if bias_correction else 1)
        with bar(console(stderr=True), str(path), folds * len(test)) as advance:
            costs = compare_folds(model, example, calibration, test, bias_correction=bias_correction, progress=advance)
        config = checkpoint.config or {}
        bits = f"W{config.get('weight_bits')}A{config.get('activation_bits')}"
        found += [{"checkpoint": str(path), "bits": bits, **cost.to_dict()} for cost in costs]
    if out is not None:
        write_json(out, found)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            row["checkpoint"],
            row["bits"],
            row["fold"] + (" + bias correction" if row["bias_correction"] else ""),
            percent(row["codes_differing"]),
            decibel(row["sqnr_db"]),
            percent(row["top1_agreement"]),
            percent(row["accuracy"]),
            percent(row["trained_accuracy"]),
        )
        for row in found
    ]
    print_table("Folded (float64) against trained", COLUMNS, rows)
