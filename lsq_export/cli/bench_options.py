"""The options of `lsq-export bench`."""

from __future__ import annotations

import click

from lsq_export.qat.config import OFFSETS, QATConfig
from lsq_export.threads import most_threads

from .arguments import MODEL
from .code_options import trust_option
from .options import IMAGE_SIZE, LONGEST_PAUSE, Command, Count, Counts, Number, apply_options
from .output import HTML, OutputFile
from .thread_options import TEXT as THREADS

DEFAULTS = QATConfig()
BITS, COUNT = Count(2, 8), Count(1)


def network_options(command: Command) -> Command:
    """Which networks to time, beside the files and bundles; None where an option is left out."""
    return apply_options(
        command,
        click.option(
            "--model",
            "names",
            multiple=True,
            type=MODEL,
            metavar="NAME",
            help="Time this network with random weights; give it again to time another one, too. Beside a "
            "CHECKPOINT of your own network it allows this package.module:factory to build that.",
        ),
        trust_option,
        click.option(
            "--size",
            type=IMAGE_SIZE,
            help="Use images of this height and width.  [default: 224, or those of the checkpoint]",
        ),
        click.option(
            "--weight-bits",
            type=BITS,
            help="Quantize weights of --model and of float checkpoints to this width.  "
            f"[default: {DEFAULTS.weight_bits}]",
        ),
        click.option(
            "--activation-bits",
            type=BITS,
            help=f"Quantize their activations to this width.  [default: {DEFAULTS.activation_bits}]",
        ),
        click.option(
            "--offset",
            type=click.Choice(OFFSETS),
            help=f"Give them offsets of this kind, as train does.  [default: {DEFAULTS.offset}]",
        ),
        click.option(
            "--peer/--no-peer",
            default=None,
            help="Time ONNX Runtime's quantize_static of the float network, too.  [default: only for networks]",
        ),
        click.option(
            "--openvino/--no-openvino",
            default=None,
            help="Time OpenVINO with the float network and qdq files, too (package openvino).  "
            "[default: only for networks, where it is installed]",
        ),
    )


def run_options(command: Command) -> Command:
    """How the models are run."""
    return apply_options(
        command,
        click.option(
            "--details/--no-details",
            default=True,
            help="Measure operator shares, peak memory and the int8 peak of the machine, too.",
        ),
        click.option("--runs", type=COUNT, default=50, help="Count this many runs of each model."),
        click.option(
            "--threads",
            type=Counts(most_threads()),
            default="2",
            help=f"{THREADS} 1,2: measure with each of these.",
        ),
        click.option(
            "--batch",
            type=Counts(),
            default="1",
            help="Use this batch size where the model leaves it open; 1,8: measure with each of these.",
        ),
        click.option("--baseline", metavar="NAME", help="Compare speeds with this model.  [default: the first]"),
        click.option(
            "--warmup",
            type=Count(0),
            default=5,
            help="Begin each block with this many uncounted runs.",
        ),
        click.option(
            "--pause",
            type=Number(0, LONGEST_PAUSE),
            default=0.1,
            help="Rest this many seconds before each block, until the threads of the other sessions have stopped.",
        ),
        click.option(
            "--repeat", type=COUNT, default=1, help="Measure each network this many times; their median counts."
        ),
    )


def result_options(command: Command) -> Command:
    """Where the results go."""
    return apply_options(
        command,
        click.option(
            "--record",
            "journal_file",
            metavar="FILE",
            type=OutputFile(starts=None),
            help="Keep one line of JSON per measurement; those that the file has already are not made again.",
        ),
        click.option(
            "--html", "html_file", metavar="FILE", type=OutputFile(starts=HTML), help="Write the tables as HTML, too."
        ),
        click.option(
            "--json",
            "json_file",
            metavar="FILE",
            type=OutputFile(allow_dash=True),
            help="Write the numbers as JSON, too (-: print only JSON, on stdout).",
        ),
    )
