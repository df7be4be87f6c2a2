"""lsq-export export: a trained checkpoint becomes a bundle."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lsq_export.verification.numbers import megabytes

from .arguments import CHECKPOINT, DATA, FORMAT, TARGET
from .code_options import code_options
from .fold_tables import print_fold
from .group import FAILED
from .options import Count, FilePath
from .output import console, say
from .parity_table import print_islands, print_parity, print_verdict
from .summary_lines import print_summary, verbose_option
from .thread_options import threads_option

if TYPE_CHECKING:
    from lsq_export.bundle.directory import Bundle
    from lsq_export.verification.parity import Parity

FROM_DATA = "note: sample/ and the golden vectors of the bundle hold inputs of your data (--no-sample: noise instead)"


@click.command("export")
@click.argument("checkpoint", type=CHECKPOINT)
@code_options
@click.option("--out", required=True, type=FilePath(path_type=Path), help="Write the bundle to this directory.")
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=FORMAT,
    metavar="FORMAT",
    help="Write qdq, qoperator or lookup; give it again for more.  [default: qdq and qoperator, as the target reads]",
)
@click.option(
    "--target",
    type=TARGET,
    metavar="NAME",
    default="ort-cpu",
    help="Write files for this target; see `lsq-export targets`.",
)
@click.option(
    "--fold",
    metavar="FOLD",
    help="Put real offsets onto zero points this way: strided or integer.  [default: the target's]",
)
@click.option(
    "--data",
    "data_spec",
    type=DATA,
    metavar="SPEC",
    help="Calibrate on the train split of these data.  [default: what the checkpoint was trained on]",
)
@click.option("--images", type=Count(1), default=512, help="Calibrate edges on this many training images.")
@click.option("--license", metavar="SPDX", help="Note this license in the bundle, as Apache-2.0.  [default: none]")
@click.option(
    "--no-sample", is_flag=True, help="Put noise into the bundle in place of a sample and golden inputs of your data."
)
@click.option("--force", is_flag=True, help="Replace the bundle in --out.")
@click.option(
    "--strict-integer", is_flag=True, help="Refuse operators that would stay float between integers (islands)."
)
@click.option("--bias-correction/--no-bias-correction", help="Let biases take back the mean errors of their channels.")
@threads_option()
@verbose_option
@click.option("--json", "as_json", is_flag=True, help="Print the parity as JSON on stdout.")
def command(as_json: bool, verbose: bool, **options: Any) -> None:
    """Fold a trained checkpoint and write a bundle: integer ONNX files, golden vectors, manifest, parity, report.

    The export is verified on 64 calibration images before the bundle appears; exit code 1 if a promise does not hold.
    Prints a summary; the tables are in the report, and printed with -v.
    """
    from lsq_export.bundle.directory import PARITY

    bundle = _export(Options(**options))
    parity = bundle.parity
    assert parity is not None  # of a bundle that was just exported
    if as_json:
        click.echo((bundle.directory / PARITY).read_text(encoding="utf-8"), nl=False)
    else:
        print_export(bundle, parity, verbose=verbose)
        if not options["no_sample"]:
            say(FROM_DATA, err=True)
        if parity.ok:
            say(f"next: {shlex.join(['lsq-export', 'verify', str(options['out'])])}", err=True)
    if not parity.ok:
        raise click.exceptions.Exit(FAILED)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line asks for; the names are those of the options."""

    checkpoint: Path
    named: str | None
    trust: bool
    out: Path
    formats: tuple[str, ...]
    target: str
    fold: str | None
    data_spec: str | None
    images: int
    license: str | None
    no_sample: bool
    force: bool
    strict_integer: bool
    bias_correction: bool
    threads: int | None


def _export(options: Options) -> Bundle:
    _check(options)
    from lsq_export.pipeline import export
    from lsq_export.progress import stages
    from lsq_export.threads import using_threads
    from lsq_export.training.checkpoint import restore

    from .data_options import calibration_batches, described, example_of, load_data, source_of

    model, checkpoint = restore(options.checkpoint, model=options.named, trust=options.trust)
    spec = options.data_spec or checkpoint.extra.get("data")
    data = load_data(spec, checkpoint.input_shape, option="--data", like=checkpoint.preprocessing)
    known = described(checkpoint, data, trained_on=options.data_spec in (None, checkpoint.extra.get("data")))
    with using_threads(options.threads), stages(console(stderr=True), "export") as on_stage:
        return export(
            model,
            example_of(data),
            options.out,
            formats=options.formats or None,
            calibration=calibration_batches(data, options.images),
            target=options.target,
            fold=options.fold,
            force=options.force,
            strict_integer=options.strict_integer,
            bias_correction=options.bias_correction,
            license=options.license,
            **(known | {"sample": False} if options.no_sample else known),
            source=source_of(checkpoint, options.data_spec),
            on_stage=on_stage,
        )


def _check(options: Options) -> None:
    """What can be known before anything is computed. Errors (QuantizationError)."""
    from lsq_export import targets
    from lsq_export.bundle.place import check_target
    from lsq_export.training.named_code import check_builder

    from .data_options import check_data

    check_builder(options.checkpoint, options.named, options.trust)
    targets.choose(targets.get(options.target), options.formats or None, options.fold)
    check_target(options.out, force=options.force, keep=[options.checkpoint])
    check_data(options.checkpoint, options.data_spec)


def print_export(bundle: Bundle, parity: Parity, *, verbose: bool) -> None:
    """The summary of a bundle that was just written."""
    from lsq_export.bundle.directory import REPORT

    print_summary(bundle.manifest, parity)
    sizes = ", ".join(f"{name} {megabytes(entry['bytes'])}" for name, entry in bundle.manifest["formats"].items())
    more = "" if verbose else f"; tables: {REPORT} there, or -v"
    say(f"wrote {bundle.directory} ({sizes}){more}")
    print_verdict(parity)
    if verbose:
        say()
        print_fold(bundle.manifest)
        say()
        print_parity(parity, layers=True)
        print_islands(parity)
