"""lsq-export replay: the golden vectors of a bundle in real runtimes, integers against the integer reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from calib.errors import QuantizationError
from calib.words import counted
from lsq_export.replaying import runtime as runtimes

from .arguments import BUNDLE, FORMAT, ONNX, Name
from .group import FAILED
from .options import Count, FilePath, Number
from .output import print_json, print_table, say

if TYPE_CHECKING:
    from calib.arrays import Arrays
    from lsq_export.replaying.result import Replay, Replayed

NPZ = "npz:"
INSIDE = 8  # inputs on which a file of another tool is compared inside, unless --tensors says otherwise


class NpzSpec(click.ParamType):  # type: ignore[type-arg]
    """npz:FILE, as the path of the file."""

    name = "spec"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        text = str(value)
        path = Path(text.removeprefix(NPZ))
        if not text.startswith(NPZ):
            raise QuantizationError(f"data {text!r} is no file of arrays: replay takes npz:FILE")
        if not path.is_file():
            raise QuantizationError(f"data {text!r}: there is no file {path}: replay takes npz:FILE")
        return path


@click.command("replay")
@click.argument("bundle", type=BUNDLE)
@click.option(
    "--runtime",
    "names",
    type=Name("runtime", runtimes.get),
    metavar="NAME",
    multiple=True,
    help=f"Run it there; several times for several: {', '.join(runtimes.names())}.",
)
@click.option("--all", "all_of_them", is_flag=True, help="Run it in all runtimes that are installed.")
@click.option("--format", "formats", type=FORMAT, multiple=True, help="Run this file.  [default: all of the bundle]")
@click.option(
    "--file",
    "files",
    type=FilePath(exists=True, dir_okay=False),
    metavar="FILE.onnx",
    multiple=True,
    help="Run this file, which another tool made of one of the bundle's: alone, unless --format is given as well. "
    f"Integers inside are compared as by --tensors {INSIDE}.",
)
@click.option("--data", type=NpzSpec(), metavar="npz:FILE", help="Run these inputs (x_test or x) besides.")
@click.option("--images", type=Count(1), default=64, help="Take at most this many of them.")
@click.option(
    "--tensors", type=Count(1), metavar="N", help="Compare all integers inside besides, on so many of the inputs."
)
@click.option("--timeout", type=Number(0, min_open=True), default=300.0, help="End a run that takes more seconds.")
@click.option(
    "--python", type=FilePath(path_type=Path), help="Run them with this interpreter, which has their packages."
)
@click.option("--no-inside", is_flag=True, help="Where outputs differ, do not look for the first tensor that does.")
@click.option(
    "--record", is_flag=True, help="Keep the results in the bundle: replay.json, and a matrix in report.html."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    bundle: Path,
    names: tuple[str, ...],
    all_of_them: bool,
    formats: tuple[str, ...],
    files: tuple[str, ...],
    data: Path | None,
    images: int,
    tensors: int | None,
    timeout: float,
    python: Path | None,
    no_inside: bool,
    record: bool,
    as_json: bool,
) -> None:
    """Run the golden vectors of a bundle in real runtimes, and compare integers with those that have to come out.

    Each runs in a process of its own: one that refuses the file, crashes or hangs is a line of the table, which says
    what to export instead. Where outputs differ, the first tensor inside that does is named, and what computes it.
    Exit code 1 if something differs, crashes or hangs, or if a runtime that was named refuses the file; 2 if no runtime
    is installed. Needs no PyTorch, but for --data and --tensors of a bundle without a qoperator file.
    """
    if all_of_them == bool(names):
        raise click.UsageError("give either --runtime NAME or --all")
    if foreign := next((file for file in files if not file.endswith(ONNX)), None):
        raise click.UsageError(
            f"{foreign} is no ONNX file: replay takes FILE{ONNX}; of others compare outputs with the golden vectors"
        )
    if record and files:
        raise click.UsageError("give either --record or --file: a bundle keeps what became of its own files")
    if tensors and no_inside:
        raise click.UsageError("give either --tensors or --no-inside")
    from lsq_export.replaying.replaying import replay

    found = replay(
        bundle,
        names or None,
        formats=(*formats, *files) or None,
        inputs=_inputs(bundle, data, images),
        inside=tensors or (not no_inside and (INSIDE if files else True)),
        timeout=timeout,
        python=python,
        on_run=lambda run: None if as_json else say(_progress(run), err=True),
    )
    if as_json:
        print_json(found.to_dict())
    else:
        _print(found, all_of_them)
    if record:
        from lsq_export.bundle.directory import open_bundle
        from lsq_export.report.recording import record_replay

        record_replay(open_bundle(bundle), found.to_dict()["runs"])
    missing = [run for run in found.runs if run.verdict == "missing"]
    if missing and (not all_of_them or len(missing) == len(found.runs)):
        raise QuantizationError(f"{missing[0].runtime} cannot run: {missing[0].why}")
    if (tensors and _are_unseen(found, files)) or not (found.same_where_taken if all_of_them else found.ok):
        raise click.exceptions.Exit(FAILED)


def _are_unseen(found: Replay, files: tuple[str, ...]) -> bool:
    """Whether nothing inside of one of these files was compared, which was asked for; says so."""
    unseen = [run for run in found.runs if run.file in files and run.inside and not run.inside.difference]
    for run in unseen:
        say(f"FAILED: {run.file}: --tensors was asked for; {run.line}", err=True)
    return bool(unseen)


def _inputs(bundle: Path, data: Path | None, images: int) -> Arrays | None:
    if data is None:
        return None
    from lsq_export.bundle.directory import open_bundle
    from lsq_export.replaying.given_inputs import given_inputs

    return given_inputs(data, open_bundle(bundle).manifest, images)


def _progress(run: Replayed) -> str:
    return f"{run.runtime}, {run.file}: {run.verdict} ({run.seconds:.1f} s)"


def _print(found: Replay, all_of_them: bool) -> None:
    """all_of_them: nobody asked for those that are not installed."""
    from lsq_export.replaying.result import COLUMNS, MISSING, rows

    missing = list(dict.fromkeys(run.runtime for run in found.runs if run.verdict == MISSING and all_of_them))
    shown = [run for run in found.runs if run.runtime not in missing]
    print_table(f"Replay of {found.bundle}: {counted(found.runs[0].images, 'input')}", COLUMNS, rows(shown))
    if missing:
        say(f"not installed: {', '.join(missing)}; --runtime {missing[0]} says how to install it")
