"""What LSQ's, LSQ+'s and min-max initialization do to a float model's activations, before any training.

python -m models.first_grids
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lsq_export.cli.group import OneLineErrors
from lsq_export.cli.output import console, print_json, print_table

if TYPE_CHECKING:
    from .paper.grids_file import GridsFile


def _known(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    from . import names

    for name in value:
        if name not in names():
            raise click.BadParameter(f"{name!r} is unknown: use {', '.join(names())}")
    return tuple(dict.fromkeys(value))


@click.command(
    "first-grids",
    cls=OneLineErrors,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120, "show_default": True},
)
@click.option(
    "--network",
    "networks",
    multiple=True,
    default=("efficientnet_b0", "resnet18"),
    callback=_known,
    metavar="NAME",
    help="Network to measure; may be repeated.",
)
@click.option(
    "--bits", type=click.IntRange(2, 8), default=3, help="Bits of weights and activations; the first layer has 8."
)
@click.option(
    "--record",
    "record_path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("out-paper/runs.jsonl"),
    help="The record of models.paper_tables: its settings are used, if it is there, and the float models beside it. "
    "Missing ones are trained.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="JSON file to write, which RESULTS.md shows as results/first-grids.json.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
def command(networks: tuple[str, ...], bits: int, record_path: Path, out: Path | None, as_json: bool) -> None:
    """Show what each first grid of activations does to the calibration images of seed 0 in the float model.

    The figures are means over the layers with inputs of four dimensions: the step in units of the tensor's σ, the
    squared error in units of its variance, and the share of channels that vary in float and have one code only.
    """
    grids = _measure(networks, bits, record_path)
    if out is not None:
        grids.write(out)
    if as_json:
        print_json(grids.to_dict())
        return
    from .paper.plan import INIT_NAMES

    for network in networks:
        rows = [row for row in grids.rows if row.network == network]
        texts = [
            (r.configuration, INIT_NAMES[r.init], f"{r.step:.2f}", f"{r.error:.3f}", f"{r.constant:.1%}") for r in rows
        ]
        title = f"{network}, A{bits}: first grids, means over {rows[0].layers} layers"
        print_table(
            title, ("configuration", "initialization", ">s / σ", ">squared error / σ²", ">constant channels"), texts
        )


def _measure(networks: tuple[str, ...], bits: int, record_path: Path) -> GridsFile:
    from lsq_export.progress import bar

    from .paper.plan import settings_of, starts
    from .paper.record import Record

    recorded = Record(record_path, {}).settings
    settings = {network: recorded.get(network) or settings_of(network) for network in networks}
    from .paper.first_grids import measure_all
    from .paper.runs import make_float
    from .paper.series import float_directory, one_thread

    directory = float_directory(record_path)
    with (
        bar(console(stderr=True), "first grids", sum(1 + len(starts(network)) for network in networks)) as step,
        one_thread(),
    ):
        for network in networks:
            make_float(network, settings[network], directory)
            step(f"float {network}")
        return measure_all(networks, bits, settings, directory, step)


if __name__ == "__main__":
    command.main(prog_name="python -m models.first_grids")
