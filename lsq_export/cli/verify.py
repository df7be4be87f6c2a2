"""lsq-export verify: does a bundle do what the trained model did?"""

from __future__ import annotations

from pathlib import Path

import click

from calib.errors import QuantizationError


@click.command("verify")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--data", "data_spec", metavar="SPEC", help="Data to run on.  [default: what the checkpoint was trained on]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(**options: object) -> None:
    """Check a bundle in ONNX Runtime, layer by layer; exit code 1 if a promise does not hold."""
    raise QuantizationError("verify is not available in this version yet")
