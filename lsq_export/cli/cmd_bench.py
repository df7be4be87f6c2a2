"""lsq-export bench: what ONNX models cost, against each other and against ONNX Runtime's own quantization."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .bench_table import print_record, print_summary
from .output import OutputFile, console

if TYPE_CHECKING:
    from lsq_export.bench import Record, Subject

BITS = click.IntRange(2, 8)


@click.command("bench")
@click.argument("paths", metavar="[FILE|BUNDLE|CHECKPOINT]...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--model", "names", multiple=True, metavar="NAME", help="Network to time with random weights; may be repeated."
)
@click.option(
    "--size", type=click.IntRange(1), help="Height and width of its images.  [default: 224, or those of the checkpoint]"
)
@click.option("--weight-bits", type=BITS, help="Width of weights, for --model and float checkpoints.  [default: 4]")
@click.option("--activation-bits", type=BITS, help="Width of activations, likewise.  [default: 4]")
@click.option(
    "--offset",
    type=click.Choice(["real", "integer", "container"]),
    help="Learned offsets, likewise; as in train.  [default: real]",
)
@click.option(
    "--peer/--no-peer",
    default=None,
    help="Also ONNX Runtime's quantize_static of the float network.  [default: for networks, not for files]",
)
@click.option(
    "--details/--no-details", default=True, help="Also operator shares, peak memory and the machine's int8 peak."
)
@click.option("--runs", type=click.IntRange(1), default=50, help="Counted runs of each model.")
@click.option("--threads", type=click.IntRange(1), default=2, help="Threads of each session.")
@click.option("--batch", type=click.IntRange(1), default=1, help="Batch size, where the model leaves it open.")
@click.option("--baseline", metavar="NAME", help="Model that ratios refer to.  [default: the first]")
@click.option("--warmup", type=click.IntRange(0), default=5, help="Uncounted runs at the start of each block.")
@click.option(
    "--pause",
    type=click.FloatRange(0),
    default=0.1,
    help="Seconds of rest before each block, for the other sessions' threads to stop.",
)
@click.option(
    "--repeat", type=click.IntRange(1), default=1, help="Whole measurements of each network; their median counts."
)
@click.option(
    "--record",
    "journal_file",
    metavar="FILE",
    type=OutputFile(),
    help="JSON lines, one a measurement: those that are there already are not made again.",
)
@click.option("--html", "html_file", metavar="FILE", type=OutputFile(), help="Write the tables there as HTML.")
@click.option(
    "--json",
    "json_file",
    metavar="FILE",
    type=OutputFile(allow_dash=True),
    help="Write JSON there too (-: only JSON, on stdout).",
)
def command(
    paths: tuple[Path, ...],
    names: tuple[str, ...],
    size: int | None,
    weight_bits: int | None,
    activation_bits: int | None,
    offset: str | None,
    peer: bool | None,
    repeat: int,
    journal_file: Path | None,
    html_file: Path | None,
    json_file: Path | None,
    **options: Any,
) -> None:
    """Time ONNX models on random inputs in ONNX Runtime, in alternating blocks of one run.

    FILE, BUNDLE: the files as they are; of a bundle its float model, if there is one, and the model of each format.

    CHECKPOINT, --model NAME: the float network as torch exports it, both of our formats, and ONNX Runtime's own
    quantize_static of the float network (per channel, uint8 activations) in both of its formats. A network by name has
    random weights: speed does not depend on them."""
    from lsq_export.bench.journal import Journal, summarize
    from lsq_export.bench.plan import plan, run

    config: dict[str, Any] = {"weight_bits": weight_bits, "activation_bits": activation_bits, "offset": offset}
    planned = plan(paths, names, size=size, **config, peer=peer, baseline=options["baseline"])
    journal = Journal(journal_file) if journal_file is not None else None
    records = []
    with _Progress(repeat, **options) as progress:
        for record in run(
            planned, repeat=repeat, journal=journal, on_stage=progress.stage, on_subject=progress.subject, **options
        ):
            progress.close()
            records.append(record)
            if json_file != Path("-"):
                print_record(record)
    if repeat > 1 and json_file != Path("-"):
        print_summary(summarize(records))
    _write(records, html_file, json_file)


class _Progress:
    """On stderr: a spinner while a network is exported, then a bar for each measurement."""

    def __init__(self, repeat: int, runs: int, details: bool, **_: Any) -> None:
        self._repeat, self._runs, self._details = repeat, runs, details
        self._console = console(stderr=True)
        self._stack = ExitStack()
        self._status: Any = None

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)  # a bar must know whether it ended well

    def stage(self, network: str, stage: str) -> None:
        """The name of a stage of the export."""
        if self._status is None:
            self._status = self._stack.enter_context(self._console.status(""))
        self._status.update(f"{network}: {stage}")

    def subject(self, subject: Subject, number: int) -> Callable[[str], None]:
        """A bar of the steps of one measurement."""
        from lsq_export.bench.record import steps
        from lsq_export.progress import bar

        self.close()
        title = f"bench {subject.network}" + (f", {number} of {self._repeat}" if self._repeat > 1 else "")
        return self._stack.enter_context(
            bar(self._console, title, steps(len(subject.models), self._runs, self._details))
        )

    def close(self) -> None:
        """What is shown now has ended well."""
        self._stack.close()
        self._status = None


def _write(records: list[Record], html_file: Path | None, json_file: Path | None) -> None:
    """JSON: one record as it is, several as a list with the medians of their ratios."""
    from lsq_export.bench.journal import summarize
    from lsq_export.report.bench import render_bench

    values: Any = records[0].to_dict()
    if len(records) > 1:
        medians = [
            {"network": s.network, "runs": s.runs, "speedups": {other: s.median(other) for other in s.speedups}}
            for s in summarize(records)
        ]
        values = {"records": [record.to_dict() for record in records], "medians": medians}
    text = json.dumps(values, indent=2, allow_nan=False) + "\n"
    if json_file == Path("-"):
        click.echo(text, nl=False)
    for option, file, content in (
        ("--json", json_file, lambda: text),
        ("--html", html_file, lambda: render_bench(records)),
    ):
        if file is None or file == Path("-"):
            continue
        try:
            file.write_text(content(), encoding="utf-8")
        except OSError as error:
            raise click.BadParameter(f"{file} cannot be written ({error.strerror})", param_hint=option) from error
