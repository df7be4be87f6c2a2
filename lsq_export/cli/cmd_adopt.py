"""lsq-export adopt: a quantized ONNX file or a checkpoint of another tool becomes a bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from calib.errors import QuantizationError

from .arguments import ADOPTED, DATA, MODEL
from .bundle_options import BundleOptions, bundle_options, end_with, take_bundle
from .onnx_networks import print_left, shaped_data, write_bundle
from .options import Count, FilePath
from .output import say
from .summary_lines import verbose_option
from .thread_options import threads_option

if TYPE_CHECKING:
    from lsq_export.adoption.left import Left
    from lsq_export.bundle.directory import Bundle
    from lsq_export.data.dataset import Dataset


@click.command("adopt")
@click.argument("file", type=ADOPTED)
@bundle_options
@click.option(
    "--data",
    "data_spec",
    type=DATA,
    required=True,
    metavar="SPEC",
    help="Calibrate and verify on these data, in the shape of the network: digits, imagefolder:DIR, npz:FILE, npy:DIR, "
    "testset:DIR or package.module:function, as for calibrate.",
)
@click.option(
    "--model",
    "model_name",
    type=MODEL,
    metavar="NAME",
    help="FILE is a checkpoint, and this the float network that was quantized: package.module:factory, or a name.",
)
@click.option(
    "--mapping",
    type=FilePath(path_type=Path, exists=True, dir_okay=False),
    help="What the checkpoint does not say: bits, signs, places, names of tensors (TOML or JSON, docs/adopting.md).",
)
@click.option("--bits", type=click.IntRange(2, 8), help="Width of the checkpoint's grids where it does not say it.")
@click.option("--image-size", type=Count(1), help="Pixels a side, where the network takes any size.")
@click.option(
    "--encodings",
    type=FilePath(path_type=Path, exists=True, dir_okay=False),
    help="FILE has no grids, they are in this file, as AIMET writes it (version 0.6, 1.0 or 2.0).",
)
@threads_option()
@verbose_option
@click.option("--json", "as_json", is_flag=True, help="Print the parity as JSON on stdout.")
def command(as_json: bool, verbose: bool, **options: Any) -> None:
    """Make a bundle of what another tool quantized; scales and zero points stay what they are.

    FILE is ONNX with QuantizeLinear and DequantizeLinear (ONNX Runtime, NNCF, Brevitas, AIMET, Quark, ModelOpt,
    torchao, …), QLinear operators, or QONNX's Quant; or, with --model, a checkpoint (torch.save, safetensors) with
    scales that torch.ao, torchao, Brevitas, NNCF, AIMET, ModelOpt, Quark, MCT or any LSQ+ code learned. Before the
    bundle appears, what it computes is held against the file itself. Exit code 1 if a promise does not hold.
    """
    written = take_bundle(options)
    done = _adopt(Options(**options), written)
    if not as_json:
        say(f"{done.name}: adopted{done.nearness}")
        print_left(done.left, done.called)
    end_with(done.bundle, written, as_json=as_json, verbose=verbose)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line asks for beside the options of bundles; the names are those of the options."""

    file: Path
    data_spec: str
    model_name: str | None
    mapping: Path | None
    bits: int | None
    image_size: int | None
    encodings: Path | None
    threads: int | None


@dataclass(frozen=True, kw_only=True)
class Adopted:
    """name: of the file. held: what its outputs are held against. left: what stays as it is; called: in a line."""

    bundle: Bundle
    name: str
    held: str
    left: tuple[Left, ...]
    called: str = "stays float"

    @property
    def nearness(self) -> str:
        """How near its outputs are to the original's, where that was measured."""
        error = self.bundle.parity.capture_error if self.bundle.parity is not None else None
        if error is None:
            return ""
        return f", outputs {f'within {error:.1g} of their range of' if error else 'exactly'} what {self.held} makes"


def _adopt(options: Options, written: BundleOptions) -> Adopted:
    _check(options)
    given = (options.file, options.encodings, options.mapping)
    written.check(*(path for path in given if path is not None))
    from lsq_export.threads import using_threads

    with using_threads(options.threads):
        return _of_file(options, written) if options.model_name is None else _of_checkpoint(options, written)


def _check(options: Options) -> None:
    """Errors (QuantizationError): options of checkpoints without a network, a network for an ONNX file."""
    from lsq_export.files.kinds import holds_tensors

    from .arguments import ONNX

    if options.model_name is not None and options.file.suffix == ONNX:
        raise QuantizationError(f"{options.file} is an ONNX file, which has its network: leave --model out")
    if options.model_name is None:
        for name in ("mapping", "bits"):
            if getattr(options, name) is not None:
                raise QuantizationError(f"--{name.replace('_', '-')} is for checkpoints: give --model NAME, too")
        if holds_tensors(options.file):
            raise QuantizationError(
                f"{options.file} is a checkpoint, which has no network: give the float network that was quantized, "
                "--model package.module:factory"
            )


def _of_file(options: Options, written: BundleOptions) -> Adopted:
    from lsq_export.adoption.network import read_quantized

    from .data_options import calibration_batches

    data: Dataset | None = None

    def example_of(sizes: Any, _: Any) -> Any:
        nonlocal data
        data = shaped_data(options.data_spec, sizes, options.image_size)
        return next(iter(calibration_batches(data, written.images)))[0]

    network = read_quantized(options.file, options.encodings, example_of)
    data = shaped_data(options.data_spec, network.captured.input_shape) if data is None else data
    bundle = write_bundle(network, None, data, options.data_spec, written)
    return Adopted(bundle=bundle, name=network.name, held="the file", left=network.left)


def _of_checkpoint(options: Options, written: BundleOptions) -> Adopted:
    from calib.batches import read_batches
    from calib.signature import takes_of
    from lsq_export.checkpoints.network import read_checkpoint
    from lsq_export.training.job import Job
    from lsq_export.training.start import fresh

    from .data_options import calibration_batches, example_of

    job = Job(model_name=str(options.model_name), data_spec=options.data_spec, image_size=options.image_size)
    data = job.load_data()
    example = example_of(data)
    net = fresh(job, data).eval()
    batches = calibration_batches(data, written.images)
    first = next((x for x, _ in read_batches(batches, takes=takes_of(net))), example)
    found = read_checkpoint(
        options.file,
        net,
        first,
        mapping=options.mapping,
        bits=options.bits,
        encodings=options.encodings,
    )
    source = {"file": options.file.name, "library": found.library}
    bundle = write_bundle(found.module, example, data, options.data_spec, written, source)
    return Adopted(
        bundle=bundle,
        name=options.file.name,
        held="the fake-quant network",
        left=found.left,
        called=f"not as {found.library} has it",
    )
