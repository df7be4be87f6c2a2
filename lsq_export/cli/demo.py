"""lsq-export demo: the main job on real digits."""

from __future__ import annotations

from pathlib import Path

import click

from calib.errors import QuantizationError


@click.command("demo")
@click.option("--model", "model_name", default="resnet18", metavar="NAME", help="resnet18, tiny, or package.module:factory for your own.")
@click.option("--weight-bits", type=click.IntRange(2, 8), default=4, help="Width of weights.")
@click.option("--activation-bits", type=click.IntRange(2, 8), default=4, help="Width of activations.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default="demo-out", help="The bundle to write.")
@click.option("--force", is_flag=True, help="Overwrite --out.")
@click.option("--seed", type=int, default=0, help="Of the weights and of the order of the data.")
def command(**options: object) -> None:
    """Train, export, verify and time a network on real handwritten digits, and print one table."""
    raise QuantizationError("demo is not available in this version yet")
