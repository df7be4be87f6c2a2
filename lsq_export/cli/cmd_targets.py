"""lsq-export targets: the deployment targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict

import click

from lsq_export import targets

from .output import print_entries, print_json

COLUMNS: Mapping[str, Callable[[targets.Target], object]] = {
    "target": lambda target: target.name,
    "formats": lambda target: ", ".join(target.readable),
    ">opset": lambda target: target.opset,
    "containers": lambda target: ", ".join(target.containers),
    "what it is": lambda target: target.description,
}


@click.command("targets")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """List the deployment targets that `export --target` knows."""
    if as_json:
        print_json([asdict(target) for target in targets.everything()])
        return
    print_entries("Deployment targets", COLUMNS, targets.everything())
