"""lsq-export calibrate: a float network, ONNX or PyTorch, becomes a bundle without training."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from calib.errors import QuantizationError

from .arguments import DATA, FLOAT_NETWORK, MODEL
from .bundle_options import BundleOptions, bundle_options, end_with, take_bundle
from .checkpoint_options import mean_std_options
from .layer_options import layer_options, take_layers
from .onnx_networks import print_left, shaped_data, write_bundle
from .options import Count, FilePath, Seed
from .output import OutputFile, console, print_table, write_file
from .summary_lines import print_line, verbose_option
from .thread_options import threads_option

if TYPE_CHECKING:
    from lsq_export.bundle.directory import Bundle
    from lsq_export.data.dataset import Dataset
    from lsq_export.qat.config import QATConfig
    from lsq_export.verification.against_float import AgainstFloat

BITS = click.IntRange(2, 8)
COMPARED = 64  # images on which layers are compared


@click.command("calibrate")
@click.argument("file", type=FLOAT_NETWORK, required=False)
@click.option(
    "--model",
    "model_name",
    type=MODEL,
    metavar="NAME",
    help="In place of FILE: this PyTorch network, or your own: package.module:factory.",
)
@click.option(
    "--float-checkpoint",
    "weights",
    type=FilePath(path_type=Path, exists=True, dir_okay=False),
    help="Its weights: a state_dict (.pth, .safetensors), or a float checkpoint of `train`.",
)
@click.option(
    "--data",
    "data_spec",
    type=DATA,
    required=True,
    metavar="SPEC",
    help="Calibrate on the train split of these data: digits, imagefolder:DIR, npz:FILE, npy:DIR (a sample in each "
    "file), testset:DIR (test_data_set_* of ONNX) or package.module:function (it gives batches); no class is used.",
)
@click.option("--image-size", type=Count(1), help="Pixels a side, where the network takes any size.")
@mean_std_options
@click.option("--weight-bits", type=BITS, default=8, help="Quantize weights to this width.")
@click.option("--activation-bits", type=BITS, default=8, help="Quantize activations to this width.")
@click.option(
    "--method",
    type=click.Choice(["minmax", "percentile", "lsq", "mse", "reconstruction"]),
    default="mse",
    help="Grids of activations: minmax, from their range, or percentile, without 0.01 % of them on either side (one "
    "pass over the data each); lsq, LSQ's rule (the same); mse, scale and real offset of the least squared error (and "
    "up to a second for each layer). reconstruction starts there, on at most 256 of the images, and learns scales, "
    "offsets and the rounding of weights block by block against float (as much again, and 256 or 512 looks at an image "
    "for each block).",
)
@click.option("--seed", type=Seed(), default=0, help="Draw what reconstruction draws from this.")
@click.option(
    "--sensitivity",
    "costs_file",
    metavar="FILE",
    type=OutputFile(),
    help="Measure what each layer costs, quantized alone on 64 images, before anything is exported: print the table, "
    "and write it as JSON to this file. --keep LAYER=8 or LAYER=float then treats the worst ones better.",
)
@layer_options
@bundle_options
@threads_option()
@verbose_option
@click.option("--json", "as_json", is_flag=True, help="Print the parity as JSON on stdout.")
def command(as_json: bool, verbose: bool, **options: Any) -> None:
    """Quantize a float network from data alone, without training, and write a bundle.

    FILE is a float ONNX network of any maker, of operator sets 7 to 27. Weights get a scale for each channel; the
    first and the last layer have 8 bits. --keep 'head=float' or 'stem*=8' treats layers differently.
    Prints what the integers make of the test split beside float. Exit code 1 if a promise does not hold.
    """
    written = take_bundle(options)
    layers = take_layers(options)
    bundle, cost, left = _calibrate(Options(**options, layers=layers, quiet=as_json), written)
    from lsq_export.report.recording import record_against_float
    from lsq_export.verification.against_float import LABEL

    record_against_float(bundle, cost)
    if not as_json:
        print_line(LABEL, cost.sentence)
        print_left(left)
    end_with(bundle, written, as_json=as_json, verbose=verbose, measured=cost)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line asks for beside the options of bundles; the names are those of the options."""

    file: Path | None
    model_name: str | None
    weights: Path | None
    data_spec: str
    image_size: int | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    weight_bits: int
    activation_bits: int
    method: Any
    seed: int
    threads: int | None
    layers: Any
    costs_file: Path | None
    quiet: bool

    @property
    def config(self) -> QATConfig:
        """The configuration of quantizers."""
        from lsq_export.calibrating import DEFAULT

        return replace(DEFAULT, weight_bits=self.weight_bits, activation_bits=self.activation_bits, layers=self.layers)

    @property
    def images(self) -> dict[str, Any]:
        """What becomes of images: keywords of `load` and of `Job`."""
        return {"image_size": self.image_size, "mean": self.mean, "std": self.std}

    @property
    def how(self) -> dict[str, Any]:
        """Keywords of `calibrate`."""
        return {"method": self.method, "seed": self.seed}


def _calibrate(options: Options, written: BundleOptions) -> tuple[Bundle, AgainstFloat, Any]:
    if (options.file is None) == (options.model_name is None):
        raise QuantizationError("give an ONNX file, or --model NAME with --float-checkpoint FILE: one of them")
    written.check(*(path for path in (options.file, options.weights) if path is not None))
    from lsq_export.threads import using_threads

    with using_threads(options.threads):
        return _of_file(options, written) if options.file is not None else _of_model(options, written)


def _of_file(options: Options, written: BundleOptions) -> tuple[Bundle, AgainstFloat, Any]:
    from lsq_export.calibrating import calibrate
    from lsq_export.progress import stages
    from lsq_export.ptq.against_float import compare
    from lsq_export.ptq.float_file import sample_shape

    from .data_options import calibration_batches

    assert options.file is not None
    data = shaped_data(options.data_spec, sample_shape(options.file), **options.images)
    batches = calibration_batches(data, written.images)
    with stages(console(stderr=True), "calibration") as progress:
        network = calibrate(options.file, batches, options.config, **options.how, progress=progress)
    _show_costs(network, data, options)
    bundle = write_bundle(network, None, data, options.data_spec, written)
    return bundle, compare(network.outputs, bundle, data.batches("test", 64)), network.left


def _of_model(options: Options, written: BundleOptions) -> tuple[Bundle, AgainstFloat, Any]:
    from lsq_export.calibrating import calibrate
    from lsq_export.graph.capture import forward
    from lsq_export.progress import stages
    from lsq_export.ptq.against_float import compare
    from lsq_export.training.job import Job
    from lsq_export.training.start import adapted, started

    from .data_options import calibration_batches, example_of

    job = Job(model_name=str(options.model_name), data_spec=options.data_spec, **options.images)
    data = job.load_data()
    path = options.weights
    if path is None:
        raise QuantizationError("--model needs the weights of the trained network: give --float-checkpoint FILE")
    net = started(adapted(job, data, path), data, path).model.eval()
    batches = calibration_batches(data, written.images)
    with stages(console(stderr=True), "calibration") as progress:
        model = calibrate(net, batches, options.config, **options.how, progress=progress)
    _show_costs(model, data, options)
    bundle = write_bundle(model, example_of(data), data, options.data_spec, written)

    def outputs(x: Any) -> list[Any]:
        return [value.numpy() for value in forward(net, x)]

    return bundle, compare(outputs, bundle, data.batches("test", 64)), ()


def _show_costs(network: Any, data: Dataset, options: Options) -> None:
    """What each layer costs, if that was asked for."""
    if options.costs_file is None:
        return
    from lsq_export.progress import stages
    from lsq_export.ptq.one_by_one import sensitivity

    from .data_options import calibration_batches

    with stages(console(stderr=True), "sensitivity") as progress:
        found = sensitivity(network, calibration_batches(data, COMPARED), progress=progress)
    write_file("--sensitivity", options.costs_file, json.dumps(found.to_dict(), indent=2) + "\n")
    if not options.quiet:
        print_table(found.table.title, found.table.columns, found.table.rows)
