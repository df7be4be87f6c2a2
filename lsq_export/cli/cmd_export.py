"""lsq-export export: a trained checkpoint becomes a bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .arguments import CHECKPOINT, DATA
from .bundle_options import BundleOptions, bundle_options, end_with, take_bundle
from .code_options import code_options
from .output import console
from .summary_lines import verbose_option
from .thread_options import threads_option

if TYPE_CHECKING:
    from lsq_export.bundle.directory import Bundle


@click.command("export")
@click.argument("checkpoint", type=CHECKPOINT)
@code_options
@bundle_options
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
@threads_option()
@verbose_option
@click.option("--json", "as_json", is_flag=True, help="Print the parity as JSON on stdout.")
def command(as_json: bool, verbose: bool, **options: Any) -> None:
    """Fold a trained checkpoint and write a bundle: integer ONNX files, golden vectors, manifest, parity, report.

    The export is verified on 64 calibration images before the bundle appears; exit code 1 if a promise does not hold.
    Prints a summary; the tables are in the report, and printed with -v.
    """
    written = take_bundle(options)
    end_with(_export(Options(**options), written), written, as_json=as_json, verbose=verbose)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line asks for beside the options of bundles; the names are those of the options."""

    checkpoint: Path
    named: str | None
    trust: bool
    fold: str | None
    data_spec: str | None
    threads: int | None


def _export(options: Options, written: BundleOptions) -> Bundle:
    _check(options, written)
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
            written.out,
            calibration=calibration_batches(data, written.images),
            fold=options.fold,
            **written.keywords,
            **(known | {"sample": False} if written.no_sample else known),
            source=source_of(checkpoint, options.data_spec),
            on_stage=on_stage,
        )


def _check(options: Options, written: BundleOptions) -> None:
    """What can be known before anything is computed. Errors (QuantizationError)."""
    from lsq_export.training.named_code import check_builder

    from .data_options import check_data

    check_builder(options.checkpoint, options.named, options.trust)
    written.check(options.checkpoint, fold=options.fold)
    check_data(options.checkpoint, options.data_spec)
