"""lsq-export adopt: a quantized ONNX file of another tool becomes a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .arguments import DATA, QUANTIZED
from .bundle_options import BundleOptions, bundle_options, end_with, take_bundle
from .onnx_networks import print_left, shaped_data, write_bundle
from .output import say
from .summary_lines import verbose_option
from .thread_options import threads_option

if TYPE_CHECKING:
    from lsq_export.adoption.network import OnnxNetwork
    from lsq_export.bundle.directory import Bundle


@click.command("adopt")
@click.argument("file", type=QUANTIZED)
@bundle_options
@click.option(
    "--data",
    "data_spec",
    type=DATA,
    required=True,
    metavar="SPEC",
    help="Calibrate and verify on these data: digits, imagefolder:DIR or npz:FILE, in the shape of the network.",
)
@threads_option()
@verbose_option
@click.option("--json", "as_json", is_flag=True, help="Print the parity as JSON on stdout.")
def command(file: Path, data_spec: str, threads: int | None, as_json: bool, verbose: bool, **options: Any) -> None:
    """Make a bundle of an ONNX file that another tool quantized; scales and zero points stay what they are.

    FILE has QuantizeLinear and DequantizeLinear (ONNX Runtime, NNCF, Brevitas, AIMET, Quark, ModelOpt, torchao, …),
    QLinear operators, or QONNX's Quant. Before the bundle appears, what it computes is held against the file itself, in
    ONNX Runtime without optimization. Exit code 1 if a promise does not hold.
    """
    written = take_bundle(options)
    network, bundle = _adopt(file, data_spec, threads, written)
    parity = bundle.parity
    assert parity is not None and parity.capture_error is not None
    if not as_json:
        say(f"{network.name}: adopted, outputs within {parity.capture_error:.1g} of their range of what the file makes")
        print_left(network.left)
    end_with(bundle, written, as_json=as_json, verbose=verbose)


def _adopt(file: Path, spec: str, threads: int | None, written: BundleOptions) -> tuple[OnnxNetwork, Bundle]:
    written.check(file)
    from lsq_export.adoption.network import read_quantized
    from lsq_export.threads import using_threads

    network = read_quantized(file)
    data = shaped_data(spec, network.captured.input_shape)
    with using_threads(threads):
        return network, write_bundle(network, None, data, spec, written)
