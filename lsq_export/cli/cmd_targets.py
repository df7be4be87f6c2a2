"""lsq-export targets: the deployment targets."""

from __future__ import annotations

from dataclasses import asdict

import click

from lsq_export import targets

from .output import print_json, print_table


@click.command("targets")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """List the deployment targets that `export --target` knows."""
    if as_json:
        print_json([asdict(target) for target in targets.everything()])
        return
    rows = [
        (t.name, ", ".join(t.formats), t.opset, ", ".join(t.containers), t.description) for t in targets.everything()
    ]
    print_table("Deployment targets", ("target", "formats", ">opset", "containers", "what it is"), rows)
