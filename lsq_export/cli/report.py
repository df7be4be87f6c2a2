"""lsq-export report: the HTML report of a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from calib.errors import QuantizationError


@click.command("report")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="File to write.  [default: report.html in the bundle]")
def command(**options: object) -> None:
    """Write the HTML report of a bundle."""
    raise QuantizationError("report is not available in this version yet")
