"""lsq-export init-speed: time of the initialization, as a share of an epoch of QAT."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from calib.words import counted
from lsq_export.qat.config import GRANULARITIES, QATConfig

from .arguments import MODEL
from .options import IMAGE_SIZE, Count
from .output import STDOUT, json_option, print_table, write_json_file
from .thread_options import threads_option

if TYPE_CHECKING:
    from lsq_export.bench.initialization import InitSpeed

COLUMNS = ("batches", "weights by", ">slowest s", ">median s", ">share of the epoch")
DEFAULTS = QATConfig()
BITS, COUNT = Count(2, 8), Count(1)


@click.command("init-speed")
@click.option("--model", type=MODEL, default="resnet18", metavar="NAME", help="Initialize this network.")
@click.option(
    "--init-batches",
    "batches",
    type=COUNT,
    multiple=True,
    default=(4,),
    help="Start from this many batches; give it again to measure another number, too.",
)
@click.option("--batch", type=Count(2), default=64, help="Put this many images into a batch.")
@click.option("--size", type=IMAGE_SIZE, default=32, help="Make images of this height and width.")
@click.option("--images", type=COUNT, default=50_000, help="Compare with an epoch of this many images.")
@click.option("--weight-bits", type=BITS, default=DEFAULTS.weight_bits, help="Quantize weights to this width.")
@click.option(
    "--activation-bits", type=BITS, default=DEFAULTS.activation_bits, help="Quantize activations to this width."
)
@click.option(
    "--granularity",
    type=click.Choice(GRANULARITIES),
    default=DEFAULTS.weight_granularity,
    help="Use one weight scale per tensor or per channel.",
)
@click.option("--rounds", type=COUNT, default=3, help="Let initializations and training steps take this many turns.")
@click.option("--steps", type=COUNT, default=5, help="Count this many training steps in a round.")
@threads_option(2)
@json_option
def command(
    json_file: Path | None, model: str, weight_bits: int, activation_bits: int, granularity: Any, **options: Any
) -> None:
    """Time `calib.initialize(…, "mse")` against QAT steps of the same network on the CPU, and extrapolate an epoch."""
    from lsq_export.bench.initialization import InitSettings, measure_initialization

    config = QATConfig(weight_bits=weight_bits, activation_bits=activation_bits, weight_granularity=granularity)
    result = measure_initialization(model, InitSettings(config=config, **options))
    if json_file != STDOUT:
        print_speed(result)
    write_json_file(json_file, result.to_dict())


def print_speed(result: InitSpeed) -> None:
    """The table of a result."""
    widths = f"W{result.weight_bits}A{result.activation_bits}"
    what = f"{result.model} {widths} per {result.granularity}, batch {result.batch}, {result.size}×{result.size}"
    epoch = f"a QAT step {result.step_ms:.0f} ms, {counted(result.images, 'image')} {result.epoch_seconds:.0f} s"
    rows = [
        (row.batches, row.weights, f"{row.seconds:.2f}", f"{row.median_seconds:.2f}", f"{row.share:.2%}")
        for row in result.rows
    ]
    print_table(f"{what}, {counted(result.threads, 'thread')}, torch {result.torch}: {epoch}", COLUMNS, rows)
