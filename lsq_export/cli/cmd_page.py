"""lsq-export page: a folder with a page that runs the network of a bundle in a browser."""

from __future__ import annotations

from pathlib import Path

import click

from .arguments import BUNDLE, FORMAT
from .options import FilePath
from .output import say


@click.command("page")
@click.argument("bundle", type=BUNDLE)
@click.option("--out", required=True, type=FilePath(path_type=Path), help="Write this folder.")
@click.option("--format", "name", type=FORMAT, help="Take this file.  [default: qoperator, if the bundle has it]")
@click.option(
    "--onnxruntime-web",
    "runtime",
    type=FilePath(path_type=Path, exists=True, file_okay=False),
    metavar="FOLDER",
    help="Take this npm package.  [default: that in node_modules or in the cache; else npm fetches it]",
)
@click.option("--force", is_flag=True, help="Replace the page in --out.")
def command(bundle: Path, out: Path, name: str | None, runtime: Path | None, force: bool) -> None:
    """Write a folder with a page that runs the network of a bundle in a browser, for any static server.

    It classifies what is drawn or dropped there, shows that the golden vectors come out with the same integers, and how
    long a call takes. It needs no internet. onnxruntime-web is taken from node_modules here or from the cache; where it
    is in neither, npm fetches it from its registry: the only thing that any command fetches.
    """
    from lsq_export.webpage.writing import write_page

    found = write_page(bundle, out, format=name, runtime=runtime, force=force)
    size = sum(path.stat().st_size for path in found.iterdir()) / 1e6
    say(f"wrote {out} ({size:.1f} MB): python -m http.server -d {out}")
