"""lsq-export init-speed: time of the initialization, as a share of an epoch of QAT."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .output import STDOUT, json_option, print_table, write_json_file

if TYPE_CHECKING:
    from lsq_export.bench.initialization import InitSpeed

COLUMNS = ("batches", "weights by", ">slowest s", ">median s", ">share of the epoch")


@click.command("init-speed")
@click.option("--model", default="resnet18", metavar="NAME", help="Network to initialize.")
@click.option(
    "--init-batches",
    "batches",
    type=click.IntRange(1),
    multiple=True,
    default=(4,),
    help="Batches to start from; repeat for more.",
)
@click.option("--batch", type=click.IntRange(2), default=64, help="Images in a batch.")
@click.option("--size", type=click.IntRange(1), default=32, help="Height and width of the images.")
@click.option("--images", type=click.IntRange(1), default=50_000, help="Images of the epoch.")
@click.option("--weight-bits", type=click.IntRange(2, 8), default=4, help="Width of weights.")
@click.option("--activation-bits", type=click.IntRange(2, 8), default=4, help="Width of activations.")
@click.option(
    "--granularity",
    type=click.Choice(["tensor", "channel"]),
    default="tensor",
    help="One weight scale per tensor or per channel.",
)
@click.option("--rounds", type=click.IntRange(1), default=3, help="Of initializations and training steps in turn.")
@click.option("--steps", type=click.IntRange(1), default=5, help="Counted training steps in a round.")
@click.option("--threads", type=click.IntRange(1), default=2, help="CPU threads.")
@json_option
def command(
    json_file: Path | None, model: str, weight_bits: int, activation_bits: int, granularity: Any, **options: Any
) -> None:
    """Time `calib.initialize(…, "mse")` against QAT steps of the same network on the CPU, and extrapolate an epoch."""
    from lsq_export.bench.initialization import measure
    from lsq_export.qat.prepare_model import QATConfig

    config = QATConfig(weight_bits=weight_bits, activation_bits=activation_bits, weight_granularity=granularity)
    result = measure(model, config=config, **options)
    if json_file != STDOUT:
        print_speed(result)
    write_json_file(json_file, result.to_dict())


def print_speed(result: InitSpeed) -> None:
    """The table of a result."""
    what = (
        f"{result.model} W{result.weight_bits}A{result.activation_bits} per {result.granularity}, batch {result.batch}"
    )
    epoch = f"a QAT step {result.step_ms:.0f} ms, {result.images} images {result.epoch_seconds:.0f} s"
    title = f"{what}, {result.size}×{result.size}, {result.threads} threads, torch {result.torch}: {epoch}"
    print_table(
        title,
        COLUMNS,
        [(r.batches, r.weights, f"{r.seconds:.2f}", f"{r.median_seconds:.2f}", f"{r.share:.2%}") for r in result.rows],
    )
