"""lsq-export folds: what each way of folding real offsets costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from lsq_export.training.named_code import check_builder
from lsq_export.verification.numbers import decibel, percent

from .arguments import CHECKPOINT, DATA
from .code_options import code_options
from .data_options import check_data
from .options import Count
from .output import OutputFile, console, print_entries, print_json, write_file
from .thread_options import threads_option

COLUMNS: Mapping[str, Callable[[Mapping[str, Any]], object]] = {
    "checkpoint": lambda row: row["checkpoint"],
    "bits": lambda row: row["bits"],
    "fold": lambda row: row["fold"] + (" + bias correction" if row["bias_correction"] else ""),
    ">codes that differ": lambda row: percent(row["codes_differing"]),
    ">SQNR": lambda row: decibel(row["sqnr_db"]),
    ">agreement": lambda row: percent(row["top1_agreement"]),
    ">accuracy": lambda row: percent(row["accuracy"]),
    ">trained": lambda row: percent(row["trained_accuracy"]),
    ">float": lambda row: percent(row["float_accuracy"]),
}


@click.command("folds")
@click.argument("checkpoints", metavar="CHECKPOINT...", nargs=-1, required=True, type=CHECKPOINT)
@code_options
@click.option(
    "--data",
    "data_spec",
    type=DATA,
    metavar="SPEC",
    help="Calibrate on the train split of these data, and compare on the test split.  [default: the checkpoint's]",
)
@click.option("--images", type=Count(1), default=512, help="Calibrate on this many training images.")
@click.option(
    "--bias-correction",
    is_flag=True,
    help="Compare every fold also with biases corrected on those images (export --bias-correction).",
)
@threads_option()
@click.option("--out", type=OutputFile(), help="Write the numbers to this file as JSON, too.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON on stdout.")
def command(
    checkpoints: tuple[Path, ...], threads: int | None, out: Path | None, as_json: bool, **options: Any
) -> None:
    """Compare naive rounding of offsets, the integer fold and the strided fold against the trained model.

    "codes that differ" are those of the learned activation quantizers, end to end: rounding of residual sums to 8 bits
    is in it, too.
    """
    how = FoldsOptions(**options)
    for path in checkpoints:
        check_data(path, how.data_spec)
        check_builder(path, how.named, how.trust)
    from lsq_export.files.text import json_text
    from lsq_export.threads import using_threads

    with using_threads(threads):
        rows = [row for path in checkpoints for row in _rows(path, how)]
    if out is not None:
        write_file("--out", out, json_text(rows))
    if as_json:
        print_json(rows)
    else:
        print_entries("Folded (float64) against trained", COLUMNS, rows)


@dataclass(frozen=True, kw_only=True)
class FoldsOptions:
    """What the command line asks for each checkpoint; the names are those of the options."""

    named: str | None
    trust: bool
    data_spec: str | None
    images: int
    bias_correction: bool


def _rows(path: Path, how: FoldsOptions) -> list[dict[str, Any]]:
    """One row for each fold of a checkpoint."""
    from lsq_export.progress import bar
    from lsq_export.qat.bit_widths import widths_of
    from lsq_export.training.checkpoint import restore
    from lsq_export.verification.fold_costs import FOLDS, compare_folds
    from lsq_export.verification.in_training import InTraining

    from .data_options import calibration_batches, example_of, load_data

    model, checkpoint = restore(path, model=how.named, trust=how.trust)
    spec = how.data_spec or checkpoint.extra.get("data")
    data = load_data(spec, checkpoint.input_shape, option="--data", like=checkpoint.preprocessing)
    calibration, test = calibration_batches(data, how.images), data.batches("test", 64)
    example, folds = example_of(data), len(FOLDS) * (2 if how.bias_correction else 1)
    with bar(console(stderr=True), str(path), folds * len(test)) as advance:
        costs = compare_folds(model, example, calibration, test, bias_correction=how.bias_correction, progress=advance)
    known = InTraining.from_source(checkpoint.extra)
    same = known is not None and (known.data, known.images) == (
        how.data_spec or checkpoint.extra.get("data"),
        len(data.test),
    )
    config = checkpoint.config or {}
    bits = widths_of(config)
    about = {"checkpoint": str(path), "bits": bits}
    float_accuracy = known.float_accuracy if known is not None and same else None
    return [{**about, **cost.to_dict(), "float_accuracy": float_accuracy} for cost in costs]
