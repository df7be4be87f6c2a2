"""lsq-export export: a trained checkpoint becomes a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from calib.errors import QuantizationError


@click.command("export")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Directory of the bundle to write.")
@click.option("--format", "formats", multiple=True, metavar="FORMAT", default=("qdq", "qoperator"), help="qdq or qoperator; may be repeated.")
@click.option("--target", default="ort-cpu", help="Where the files run: see `lsq-export targets`.")
@click.option("--data", "data_spec", metavar="SPEC", help="Calibration data.  [default: what the checkpoint was trained on]")
@click.option("--force", is_flag=True, help="Overwrite --out.")
def command(**options: object) -> None:
    """Fold a trained checkpoint and write a bundle: integer ONNX files, golden vectors, report."""
    raise QuantizationError("export is not available in this version yet")
