"""lsq-export check: what export will make of a network, before it is trained."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from .arguments import DATA, MODEL
from .options import Count
from .output import print_json, print_table, say
from .thread_options import threads_option

if TYPE_CHECKING:
    from torch import nn


@click.command("check")
@click.option(
    "--model",
    "model_name",
    type=MODEL,
    required=True,
    metavar="NAME",
    help="Check this network, or your own: package.module:factory.",
)
@click.option("--data", "data_spec", type=DATA, metavar="SPEC", help="Take shape and classes from these data.")
@click.option("--channels", type=Count(1), default=3, help="Without --data: color channels of an image.")
@click.option("--size", type=Count(1), default=224, help="Without --data: pixels a side of an image.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@threads_option()
def command(
    model_name: str, data_spec: str | None, channels: int, size: int, as_json: bool, threads: int | None
) -> None:
    """Say what of a network will be integer and what stays float, which layers see no data, and its outputs.

    Each line names a module and the line of your code. Nothing is trained or written.
    """
    from lsq_export.rewrite.outlook import check
    from lsq_export.threads import using_threads

    with using_threads(threads):
        outlook = check(*_subject(model_name, data_spec, channels, size))
    if as_json:
        print_json(asdict(outlook))
        return
    table = outlook.table
    print_table(table.title, table.columns, [[str(cell) for cell in row] for row in table.rows])
    for output in outlook.outputs:
        say(str(output))


def _subject(name: str, data_spec: str | None, channels: int, size: int) -> tuple[nn.Module, Any]:
    """(network with fresh weights, example input)."""
    import torch

    from lsq_export import data, models
    from lsq_export.models.own import is_own
    from lsq_export.training.job import Job

    if data_spec is None:
        keywords = {} if is_own(name) else models.keywords(name, size)
        return models.build(name, in_channels=channels, **keywords), torch.randn(2, channels, size, size)
    dataset = data.load(data_spec)
    (example, *_) = next(iter(dataset.batches("test", limit=1)))
    spec = Job(name, data_spec).model_spec(dataset)
    return models.build(**spec), example[:2]
