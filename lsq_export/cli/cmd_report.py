"""lsq-export report: the HTML report of a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from calib.errors import QuantizationError

from .arguments import BUNDLE
from .options import FilePath
from .output import HTML, check_replaceable, say


@click.command("report")
@click.argument("bundle", type=BUNDLE)
@click.option(
    "--out",
    type=FilePath(path_type=Path, dir_okay=False),
    help="Write this file.  [default: report.html in the bundle]",
)
@click.option("--force", is_flag=True, help="Overwrite --out.")
def command(bundle: Path, out: Path | None, force: bool) -> None:
    """Write the HTML report of a bundle from its manifest and what was recorded in it.

    That is its latest parity, and where they are there bench.json (`bench BUNDLE --json BUNDLE/bench.json`),
    replay.json (`replay BUNDLE --all --record`) and against_float.json (`calibrate`).
    """
    from lsq_export.bundle.directory import REPORT, open_bundle, read_parity
    from lsq_export.bundle.records import sweep_records, write_output
    from lsq_export.report import render
    from lsq_export.report.recording import added_records, write_report

    opened = open_bundle(bundle)
    parity = read_parity(opened)
    if out is not None:
        if out.is_file() and not force:
            raise QuantizationError(f"--out {out} exists: give another name, or --force to overwrite it")
        check_replaceable(out, HTML)
    if out is None:
        sweep_records(opened.directory)
        write_report(opened, parity)
    else:
        write_output(out, render(opened.manifest, parity, **added_records(opened)))
    say(f"wrote {out or opened.directory / REPORT}")
