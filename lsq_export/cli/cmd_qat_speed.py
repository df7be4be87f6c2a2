"""lsq-export qat-speed: time and memory of a training step, quantized against float."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from calib.words import counted
from lsq_export.data.specs import LARGEST_SIDE

from .arguments import MODEL
from .options import Count
from .output import STDOUT, json_option, print_table, write_json_file
from .thread_options import threads_option

if TYPE_CHECKING:
    from lsq_export.bench.qat_step import QatSpeed

COLUMNS = ("step", ">median ms", ">time / float", ">spread over blocks", ">peak MB", ">memory / float")
COUNT = Count(1)
BATCH, SIZE = {"cpu": 16, "cuda": 256}, {"cpu": 112, "cuda": 224}


@click.command("qat-speed")
@click.option(
    "--model",
    "models",
    type=MODEL,
    metavar="NAME",
    multiple=True,
    default=("resnet18", "efficientnet_b0"),
    help="Train this model; give it again to measure another one, too.",
)
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    help="Train on this device; cuda: in bfloat16 and channels_last, also with torch.compile.",
)
@click.option("--batch", type=Count(2), help="Put this many images into a batch.  [default: 16; cuda: 256]")
@click.option(
    "--size",
    type=Count(32, largest=LARGEST_SIDE),
    help="Make images of this height and width.  [default: 112; cuda: 224]",
)
@click.option("--blocks", type=COUNT, default=10, help="Let the variants take this many turns, a block of steps each.")
@click.option("--steps", type=COUNT, default=3, help="Count this many steps in a block.")
@threads_option(2)
@click.option(
    "--fused/--no-fused", default=True, help="Measure fused kernels on the CPU, too; they need a C++ compiler."
)
@json_option
def command(
    models: tuple[str, ...], device: str, batch: int | None, size: int | None, json_file: Path | None, **options: Any
) -> None:
    """Time a QAT step against the same float step, in alternating blocks of one run.

    A step is forward, backward and SGD; QAT is W4A4, with one weight scale per tensor. Peak memory is what torch
    allocated at most, parameters, gradients and momentum included.
    """
    from lsq_export.bench.qat_step import StepSettings, measure_qat_step

    batch, size = batch or BATCH[device], size or SIZE[device]
    settings = StepSettings(device=device, batch=batch, size=size, **options)
    results = []
    for model in models:
        result = measure_qat_step(model, settings)
        results.append(result)
        if json_file != STDOUT:
            print_speed(result)
    write_json_file(json_file, [result.to_dict() for result in results])


def print_speed(result: QatSpeed) -> None:
    """The table of a result."""
    rows = [
        (
            row.name,
            f"{row.median_ms:.1f}",
            f"{row.ratio:.2f}",
            f"{row.spread[0]:.2f} … {row.spread[1]:.2f}",
            f"{row.peak_bytes / 1e6:.0f}",
            f"{row.memory_ratio:.2f}",
        )
        for row in result.rows
    ]
    images = f"batch {result.batch}, {result.size}×{result.size}, {result.dtype}"
    where = f"{result.device}, {counted(result.threads, 'thread')}" if result.device == "cpu" else result.device
    print_table(f"{result.model} W4A4, {images}, {where}, torch {result.torch}", COLUMNS, rows)
