"""lsq-export qat-speed: time and memory of a training step, quantized against float."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .output import STDOUT, json_option, print_table, write_json_file

if TYPE_CHECKING:
    from lsq_export.bench.qat_step import QatSpeed

COLUMNS = ("step", ">median ms", ">time / float", ">spread over blocks", ">peak MB", ">memory / float")


@click.command("qat-speed")
@click.option(
    "--model",
    "models",
    metavar="NAME",
    multiple=True,
    default=("resnet18", "efficientnet_b0"),
    help="Model to train; repeat for more.",
)
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    help="Where to train; cuda: bfloat16, channels_last, also torch.compile.",
)
@click.option("--batch", type=click.IntRange(2), help="Images in a batch.  [default: 16; cuda: 256]")
@click.option("--size", type=click.IntRange(32), help="Height and width of the images.  [default: 112; cuda: 224]")
@click.option("--blocks", type=click.IntRange(1), default=10, help="Blocks of steps; the variants take turns.")
@click.option("--steps", type=click.IntRange(1), default=3, help="Counted steps in a block.")
@click.option("--threads", type=click.IntRange(1), default=2, help="CPU threads.")
@click.option("--fused/--no-fused", default=True, help="On the CPU, fused kernels too; they need a C++ compiler.")
@json_option
def command(
    models: tuple[str, ...],
    device: str,
    batch: int | None,
    size: int | None,
    blocks: int,
    steps: int,
    threads: int,
    fused: bool,
    json_file: Path | None,
) -> None:
    """Time a QAT step (W4A4, per tensor; forward, backward, SGD) against the same float step, in alternating blocks of
    one run.

    Peak memory is what torch allocated at most, parameters, gradients and momentum included.
    """
    from lsq_export.bench.qat_step import measure

    batch, size = batch or (256 if device == "cuda" else 16), size or (224 if device == "cuda" else 112)
    results = []
    for model in models:
        result = measure(
            model, device=device, batch=batch, size=size, blocks=blocks, steps=steps, threads=threads, fused=fused
        )
        results.append(result)
        if json_file != STDOUT:
            print_speed(result)
    write_json_file(json_file, [result.to_dict() for result in results])


def print_speed(result: QatSpeed) -> None:
    """The table of a result."""
    rows = [
        (
            r.name,
            f"{r.median_ms:.1f}",
            f"{r.ratio:.2f}",
            f"{r.spread[0]:.2f} … {r.spread[1]:.2f}",
            f"{r.peak_bytes / 1e6:.0f}",
            f"{r.memory_ratio:.2f}",
        )
        for r in result.rows
    ]
    where = f"{result.device}, {result.threads} threads" if result.device == "cpu" else result.device
    title = f"{result.model} W4A4, batch {result.batch}, {result.size}×{result.size}, {result.dtype}, {where}, torch {result.torch}"
    print_table(title, COLUMNS, rows)
