"""Options of commands that write a bundle: export, adopt, calibrate."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lsq_export.targets.choice import LARGEST_BATCH, OPSETS
from lsq_export.verification.numbers import megabytes

from .arguments import FORMAT, TARGET
from .fold_tables import print_fold
from .group import FAILED
from .options import Command, Count, FilePath, apply_options
from .output import print_json, say
from .parity_table import print_islands, print_parity, print_verdict
from .summary_lines import print_summary

if TYPE_CHECKING:
    from lsq_export.bundle.directory import Bundle
    from lsq_export.verification.against_float import AgainstFloat
    from lsq_export.verification.parity import Parity

FROM_DATA = "note: sample/ and the golden vectors of the bundle hold inputs of your data (--no-sample: noise instead)"


@dataclass(frozen=True, kw_only=True)
class BundleOptions:
    """What the command line asks for; the names are those of the options."""

    out: Path
    formats: tuple[str, ...]
    target: str
    opset: int | None
    batch: int | None
    quantized_output: bool
    images: int
    license: str | None
    no_sample: bool
    force: bool
    strict_integer: bool
    bias_correction: bool

    def check(self, *kept: Path, fold: str | None = None) -> None:
        """What can be known before anything is computed. kept: files that are read. Errors (QuantizationError)."""
        from lsq_export import targets
        from lsq_export.bundle.place import check_target

        targets.choose(targets.get(self.target), self.formats or None, fold)
        check_target(self.out, force=self.force, keep=list(kept))

    @property
    def keywords(self) -> dict[str, Any]:
        """Those of `lsq_export.export`."""
        files = ("formats", "target", "opset", "batch", "quantized_output")
        taken = (*files, "license", "force", "strict_integer", "bias_correction")
        return {name: getattr(self, name) or None if name == "formats" else getattr(self, name) for name in taken}


def bundle_options(command: Command) -> Command:
    """The options of `BundleOptions`."""
    return apply_options(
        command,
        click.option("--out", required=True, type=FilePath(path_type=Path), help="Write the bundle to this directory."),
        click.option(
            "--format",
            "formats",
            multiple=True,
            type=FORMAT,
            metavar="FORMAT",
            help="Write qdq, qoperator or lookup; give it again for more.  [default: qdq and qoperator, as the target "
            "reads]",
        ),
        click.option(
            "--target",
            type=TARGET,
            metavar="NAME",
            default="ort-cpu",
            help="Write files for this target; see `lsq-export targets`.",
        ),
        click.option(
            "--opset",
            type=click.IntRange(*OPSETS),
            help="Write files of this ONNX operator set.  [default: the target's, or what their types need]",
        ),
        click.option(
            "--batch",
            type=Count(1, largest=LARGEST_BATCH),
            help="Write files with this fixed batch.  [default: any, or the target's]",
        ),
        click.option(
            "--quantized-output",
            is_flag=True,
            help="Give outputs a grid of 8 bits and write codes; the manifest has their scale and zero point.",
        ),
        click.option("--images", type=Count(1), default=512, help="Calibrate on this many training images."),
        click.option(
            "--license", metavar="SPDX", help="Note this license in the bundle, as Apache-2.0.  [default: none]"
        ),
        click.option(
            "--no-sample",
            is_flag=True,
            help="Put noise into the bundle in place of a sample and golden inputs of your data.",
        ),
        click.option("--force", is_flag=True, help="Replace the bundle in --out."),
        click.option(
            "--strict-integer", is_flag=True, help="Refuse operators that would stay float between integers (islands)."
        ),
        click.option(
            "--bias-correction/--no-bias-correction", help="Let biases take back the mean errors of their channels."
        ),
    )


def take_bundle(options: dict[str, Any]) -> BundleOptions:
    """What these options ask for; takes them out of `options`."""
    return BundleOptions(**{field.name: options.pop(field.name) for field in fields(BundleOptions)})


def end_with(
    bundle: Bundle, options: BundleOptions, *, as_json: bool, verbose: bool, measured: AgainstFloat | None = None
) -> None:
    """Print what was written, and end with exit code 1 if a promise does not hold. measured: beside float."""
    from lsq_export import targets
    from lsq_export.bundle.directory import PARITY, read_parity

    parity = bundle.parity
    assert parity is not None  # of a bundle that was just written
    if as_json and measured is not None:
        print_json({**read_parity(bundle), "against_float": measured.to_dict()})
    elif as_json:
        click.echo((bundle.directory / PARITY).read_text(encoding="utf-8"), nl=False)
    else:
        _print(bundle, parity, verbose=verbose, measured=measured)
        if advice := targets.get(options.target).advice:
            say(f"note: on {options.target}: {advice}", err=True)
        if not options.no_sample:
            say(FROM_DATA, err=True)
        if parity.ok:
            say(f"next: {shlex.join(['lsq-export', 'verify', str(options.out)])}", err=True)
    if not parity.ok:
        raise click.exceptions.Exit(FAILED)


def _print(bundle: Bundle, parity: Parity, *, verbose: bool, measured: AgainstFloat | None) -> None:
    from lsq_export.bundle.directory import REPORT

    print_summary(bundle.manifest, parity, measured=measured.accuracies if measured is not None else None)
    sizes = ", ".join(f"{name} {megabytes(entry['bytes'])}" for name, entry in bundle.manifest["formats"].items())
    more = "" if verbose else f"; tables: {REPORT} there, or -v"
    say(f"wrote {bundle.directory} ({sizes}){more}")
    print_verdict(parity, measured)
    if verbose:
        say()
        print_fold(bundle.manifest)
        say()
        print_parity(parity, layers=True)
        print_islands(parity)
