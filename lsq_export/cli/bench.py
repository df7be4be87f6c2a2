"""lsq-export bench: latency of ONNX models against each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .output import print_table

if TYPE_CHECKING:
    from ..bench import BenchResult

COLUMNS = ("model", ">median ms", ">quartiles ms", ">time / baseline", ">size")


@click.command("bench")
@click.argument("paths", metavar="FILE|BUNDLE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--runs", type=click.IntRange(1), default=50, help="Counted runs of each model.")
@click.option("--threads", type=click.IntRange(1), default=2, help="Threads of each session.")
@click.option("--batch", type=click.IntRange(1), default=1, help="Batch size, where the model leaves it open.")
@click.option("--baseline", metavar="NAME", help="Model that ratios refer to.  [default: the first]")
@click.option("--warmup", type=click.IntRange(0), default=5, help="Uncounted runs at the start of each block.")
@click.option("--pause", type=click.FloatRange(0), default=0.1, help="Seconds of rest before each block, for the other sessions' threads to stop.")
@click.option(
    "--json", "json_file", metavar="FILE", type=click.Path(path_type=Path, allow_dash=True), help="Write JSON there too (-: only JSON, on stdout)."
)
def command(
    paths: tuple[Path, ...], runs: int, threads: int, batch: int, baseline: str | None, warmup: int, pause: float, json_file: Path | None
) -> None:
    """Time ONNX models on random inputs in ONNX Runtime, in alternating blocks of one run.

    Of a bundle: its float model, if there is one, and the model of each format.
    """
    from ..bench import collect, compare

    result = compare(collect(paths), batch=batch, runs=runs, threads=threads, baseline=baseline, warmup=warmup, pause=pause)
    text = json.dumps(result.to_dict(), indent=2) + "\n"
    if json_file == Path("-"):
        click.echo(text, nl=False)
        return
    print_bench(result)
    if json_file is not None:
        try:
            json_file.write_text(text, encoding="utf-8")
        except OSError as error:
            raise click.BadParameter(f"{json_file} cannot be written ({error.strerror})", param_hint="--json") from error


def print_bench(result: BenchResult) -> None:
    """The table of a result."""
    rows = [
        (r.name, f"{r.median_ms:.2f}", f"{r.low_quartile_ms:.2f} … {r.high_quartile_ms:.2f}", f"{r.ratio:.2f}", f"{r.file_bytes / 1e6:.2f} MB")
        for r in result.rows
    ]
    title = f"Latency, batch {result.batch}, {result.threads} threads, ONNX Runtime {result.onnxruntime}; baseline {result.baseline}"
    print_table(title, COLUMNS, rows)
