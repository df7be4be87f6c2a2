"""lsq-export bench: what ONNX models cost, against each other and against ONNX Runtime's own quantization."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from calib.errors import shown

from .arguments import TIMED
from .bench_options import network_options, result_options, run_options
from .bench_table import conditions, print_measurement, print_summary
from .output import STDOUT, console, write_file

if TYPE_CHECKING:
    from lsq_export.bench import Measurement, RunOptions, Subject


@click.command("bench")
@click.argument("paths", metavar="[FILE|BUNDLE|CHECKPOINT]...", nargs=-1, type=TIMED)
@network_options
@run_options
@result_options
def command(
    paths: tuple[Path, ...],
    baseline: str | None,
    details: bool,
    repeat: int,
    journal_file: Path | None,
    html_file: Path | None,
    json_file: Path | None,
    trust: bool,
    **options: Any,
) -> None:
    """Time ONNX models on random inputs in ONNX Runtime, in alternating blocks of one run.

    A FILE is timed as it is. Of a BUNDLE, the float model is timed, if there is one, and the model of each format.

    A CHECKPOINT, or the network that --model names, is exported first. Then the float network is timed as torch exports
    it, with our formats and ONNX Runtime's own quantize_static of the float network (per channel, uint8 activations) in
    both of its formats. A network by name has random weights: speed does not depend on them. Where the package openvino
    is installed, OpenVINO runs the float network (at its default precision and in float32) and both qdq files, too.
    """
    if not (paths or options["names"]):
        raise click.UsageError("there is nothing to time: give ONNX files, a bundle, a checkpoint, or --model NAME")
    from lsq_export.bench import RunOptions
    from lsq_export.bench.journal import Journal, summarize
    from lsq_export.bench.plan import own_networks, plan, run

    of_runs = {name: options.pop(name) for name in ("runs", "warmup", "pause")}
    both = product(options.pop("batch"), options.pop("threads"))
    how = [RunOptions(batch=batch, threads=threads, **of_runs) for batch, threads in both]
    if trust:
        options["names"] = (*options["names"], *own_networks(paths))
    planned = plan(paths, baseline=baseline, **options)
    journal = Journal(journal_file) if journal_file is not None else None
    measurements = []
    with _Progress(repeat, details) as progress:
        for measurement in run(
            planned,
            how,
            baseline=baseline,
            details=details,
            repeat=repeat,
            journal=journal,
            on_stage=progress.stage,
            on_subject=progress.subject,
        ):
            progress.close()
            measurements.append(measurement)
            if json_file != STDOUT:
                print_measurement(measurement)
    if repeat * len(how) > 1 and json_file != STDOUT:
        print_summary(summarize(measurements))
    _write(measurements, html_file, json_file)


class _Progress:
    """On stderr: a spinner while a network is exported, then a bar for each measurement."""

    def __init__(self, repeat: int, details: bool) -> None:
        self._repeat, self._details = repeat, details
        self._console = console(stderr=True)
        self._stack = ExitStack()
        self._status: Any = None

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)  # a bar must know whether it ended well

    def stage(self, network: str, stage: str) -> None:
        """Show the name of a stage of the export."""
        if self._status is None:
            self._status = self._stack.enter_context(self._console.status(""))
        self._status.update(Text(shown(f"{network}: {stage}")))

    def subject(self, subject: Subject, how: RunOptions, number: int) -> Callable[[str], None]:
        """Show a bar of the steps of one measurement."""
        from lsq_export.bench.measurement import steps
        from lsq_export.progress import bar

        self.close()
        title = f"bench {subject.network}, {conditions(how.batch, how.threads)}"
        title += f", {number} of {self._repeat}" if self._repeat > 1 else ""
        total = steps(subject.models, how, self._details)
        return self._stack.enter_context(bar(self._console, title, total))

    def close(self) -> None:
        """End what is shown now, which has ended well."""
        self._stack.close()
        self._status = None


def _write(measurements: Sequence[Measurement], html_file: Path | None, json_file: Path | None) -> None:
    """Write the files that were asked for."""
    from lsq_export.report.bench import render_bench

    text = json.dumps(_values(measurements), indent=2, allow_nan=False) + "\n"
    if json_file == STDOUT:
        click.echo(text, nl=False)
    elif json_file is not None:
        write_file("--json", json_file, text)
    if html_file is not None:
        write_file("--html", html_file, render_bench(measurements))


def _values(measurements: Sequence[Measurement]) -> dict[str, Any]:
    """For JSON: one measurement as it is, several as a list with the medians of their speedups."""
    from lsq_export.bench.journal import summarize

    values = [measurement.to_dict() for measurement in measurements]
    if len(values) == 1:
        return values[0]
    medians = [
        {
            "network": s.network,
            "batch": s.batch,
            "threads": s.threads,
            "runs": s.runs,
            "speedups": {other: s.median(other) for other in s.speedups},
        }
        for s in summarize(measurements)
    ]
    return {"records": values, "medians": medians}
