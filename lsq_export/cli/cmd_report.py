"""lsq-export report: the HTML report of a bundle."""

from __future__ import annotations

import json
from pathlib import Path

import click

from calib.errors import QuantizationError

from .arguments import BUNDLE


@click.command("report")
@click.argument("bundle", type=BUNDLE)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write this file.  [default: report.html in the bundle]",
)
@click.option("--force", is_flag=True, help="Overwrite --out.")
def command(bundle: Path, out: Path | None, force: bool) -> None:
    """Write the HTML report of a bundle from its manifest, its latest parity, and the latencies in its bench.json.

    `bench BUNDLE --json BUNDLE/bench.json` writes those.
    """
    from lsq_export.bundle.directory import PARITY, REPORT, open_bundle
    from lsq_export.bundle.sums import update_sums
    from lsq_export.files.text import write_text
    from lsq_export.report import render
    from lsq_export.report.recording import bench_of

    opened = open_bundle(bundle)
    try:
        parity = json.loads((opened.directory / PARITY).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise QuantizationError(f"bundle {bundle} has no readable {PARITY}: run lsq-export verify {bundle}") from error
    if out is not None and out.exists() and not force:
        raise QuantizationError(f"--out {out} exists: give another name, or --force to overwrite it")
    target = out or opened.directory / REPORT
    write_text(target, render(opened.manifest, parity, bench_of(opened)))
    if out is None:
        update_sums(opened.directory, REPORT)
    click.echo(f"wrote {target}")
