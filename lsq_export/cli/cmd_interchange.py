"""lsq-export interchange: the trained network of a bundle, in a form that other tools read."""

from __future__ import annotations

from pathlib import Path

import click

from .arguments import BUNDLE
from .options import FilePath
from .output import say


@click.command("interchange")
@click.argument("bundle", type=BUNDLE)
@click.option("--form", required=True, metavar="NAME", help="qonnx, or encodings (float ONNX and AIMET's JSON).")
@click.option("--out", required=True, type=FilePath(path_type=Path), help="The file to write: NAME.onnx.")
def command(bundle: Path, form: str, out: Path) -> None:
    """Write the network of a bundle as it was trained, in float, for other tools: QONNX, or AIMET's encodings.

    qonnx has Quant nodes whose zero points are fractions, so that offsets are those that were trained (FINN, hls4ml,
    Brevitas). encodings has integer zero points alone: offsets are rounded to whole steps, and it says by how much.
    Needs no PyTorch. `lsq-export adopt` reads both.
    """
    from lsq_export.interchange.writing import write

    found = write(bundle, form, out)
    say(f"wrote {' and '.join(map(str, found.files))}")
    if found.moved:
        say(
            f"note: offsets are rounded to whole steps, that of {found.tensor} by {found.moved:.2g} of one: what that "
            "costs, `lsq-export adopt` and `verify` measure",
            err=True,
        )
