"""lsq-export adopt: a quantized ONNX file of another tool becomes a bundle."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .arguments import DATA, FORMAT, QUANTIZED, TARGET
from .cmd_export import FROM_DATA, print_export
from .group import FAILED
from .options import Count, FilePath
from .output import console, say
from .summary_lines import verbose_option
from .thread_options import threads_option

if TYPE_CHECKING:
    from lsq_export.adoption.network import OnnxNetwork
    from lsq_export.bundle.directory import Bundle

SHOWN = 8  # lines about what stays as it is


@click.command("adopt")
@click.argument("file", type=QUANTIZED)
@click.option("--out", required=True, type=FilePath(path_type=Path), help="Write the bundle to this directory.")
@click.option(
    "--data",
    "data_spec",
    type=DATA,
    required=True,
    metavar="SPEC",
    help="Calibrate and verify on these data: digits, imagefolder:DIR or npz:FILE, in the shape of the network.",
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=FORMAT,
    metavar="FORMAT",
    help="Write qdq, qoperator or lookup; give it again for more.  [default: qdq and qoperator, as the target reads]",
)
@click.option("--target", type=TARGET, metavar="NAME", default="ort-cpu", help="Write files for this target.")
@click.option("--images", type=Count(1), default=512, help="Calibrate edges on this many training images.")
@click.option("--license", metavar="SPDX", help="Note this license in the bundle, as Apache-2.0.  [default: none]")
@click.option("--no-sample", is_flag=True, help="Put noise into the bundle in place of a sample of your data.")
@click.option("--force", is_flag=True, help="Replace the bundle in --out.")
@click.option("--strict-integer", is_flag=True, help="Refuse operators that would stay float between integers.")
@threads_option()
@verbose_option
@click.option("--json", "as_json", is_flag=True, help="Print the parity as JSON on stdout.")
def command(as_json: bool, verbose: bool, **options: Any) -> None:
    """Make a bundle of an ONNX file that another tool quantized; scales and zero points stay what they are.

    FILE has QuantizeLinear and DequantizeLinear (ONNX Runtime, NNCF, Brevitas, AIMET, Quark, ModelOpt, torchao, …),
    QLinear operators, or QONNX's Quant. Before the bundle appears, what it computes is held against the file itself, in
    ONNX Runtime without optimization. Exit code 1 if a promise does not hold.
    """
    from lsq_export.bundle.directory import PARITY

    given = Options(**options)
    network, bundle = _adopt(given)
    parity = bundle.parity
    assert parity is not None and parity.capture_error is not None
    if as_json:
        click.echo((bundle.directory / PARITY).read_text(encoding="utf-8"), nl=False)
    else:
        say(f"{network.name}: adopted, outputs within {parity.capture_error:.1g} of their range of what the file makes")
        print_left(network)
        print_export(bundle, parity, verbose=verbose)
        if not given.no_sample:
            say(FROM_DATA, err=True)
        if parity.ok:
            say(f"next: {shlex.join(['lsq-export', 'verify', str(given.out)])}", err=True)
    if not parity.ok:
        raise click.exceptions.Exit(FAILED)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line asks for; the names are those of the options."""

    file: Path
    out: Path
    data_spec: str
    formats: tuple[str, ...]
    target: str
    images: int
    license: str | None
    no_sample: bool
    force: bool
    strict_integer: bool
    threads: int | None


def print_left(network: OnnxNetwork) -> None:
    """What is on a grid in the file and is computed in float all the same."""
    for left in network.left[:SHOWN]:
        say(f"stays float: {left.name} ({left.why})")
    if len(network.left) > SHOWN:
        say(f"stays float: {len(network.left) - SHOWN} more")


def _adopt(options: Options) -> tuple[OnnxNetwork, Bundle]:
    from lsq_export import targets
    from lsq_export.bundle.place import check_target

    targets.choose(targets.get(options.target), options.formats or None, None)
    check_target(options.out, force=options.force, keep=[options.file])
    from lsq_export.adopting import adopt
    from lsq_export.adoption.network import read_quantized
    from lsq_export.progress import stages
    from lsq_export.threads import using_threads

    from .data_options import calibration_batches, load_data

    network = read_quantized(options.file)
    data = load_data(options.data_spec, network.captured.input_shape, option="--data")
    with using_threads(options.threads), stages(console(stderr=True), "export") as on_stage:
        bundle = adopt(
            network,
            options.out,
            calibration=calibration_batches(data, options.images),
            formats=options.formats or None,
            target=options.target,
            force=options.force,
            strict_integer=options.strict_integer,
            preprocessing=data.preprocessing,
            source={"data": options.data_spec},
            classes=data.classes if network.classes == data.num_classes else None,
            license=options.license,
            sample=False if options.no_sample else data.sample(),
            on_stage=on_stage,
        )
    return network, bundle
