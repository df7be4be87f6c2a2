"""lsq-export demo: the main job on real digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lsq_export.qat.config import QATConfig

from .arguments import MODEL
from .bench_table import threads
from .demo_steps import Options, run_demo
from .demo_table import Result, print_models, speed
from .group import FAILED
from .options import Count, FilePath, Seed
from .output import say
from .parity_table import print_verdict
from .summary_lines import print_line, print_summary, verbose_option
from .thread_options import BY_SIZE, threads_option

DEFAULTS = QATConfig()


@click.command("demo")
@click.option(
    "--model",
    "model_name",
    default="resnet18",
    type=MODEL,
    metavar="NAME",
    help="Train resnet18, efficientnet_b0, mixnet_s, tiny, or package.module:factory for your own.",
)
@click.option("--weight-bits", type=Count(2, 8), default=DEFAULTS.weight_bits, help="Quantize weights to this width.")
@click.option(
    "--activation-bits",
    type=Count(2, 8),
    default=DEFAULTS.activation_bits,
    help="Quantize activations to this width.",
)
@click.option(
    "--out",
    type=FilePath(path_type=Path, file_okay=False),
    default="demo-out",
    help="Write checkpoints, bundle and demo.json to this directory.",
)
@click.option("--force", is_flag=True, help="Replace an earlier demo in --out.")
@click.option("--resume", is_flag=True, help="Continue the demo that was interrupted in --out; give the same command.")
@click.option("--epochs", type=Count(1), help="Train this many low-bit epochs.  [default: the recipe's]")
@click.option(
    "--float-epochs", type=Count(1), help="Train this many float epochs before that.  [default: the recipe's]"
)
@click.option("--seed", type=Seed(), default=0, help="Draw the first weights and the order of the data from this.")
@threads_option(BY_SIZE)
@click.option("--runs", type=Count(1), default=100, help="Time each model this many times.")
@verbose_option
def command(verbose: bool, **options: Any) -> None:
    """Train a network on real handwritten digits, export it, verify it on the whole test split, time it, and print what
    that cost and which promises hold.

    It keeps a log of the training in --out, and while it runs a state from which --resume continues to the same bits.
    Models are timed with two threads unless --threads is given.

    Exit code 1 if a promise does not hold.
    """
    given = Options(**options)
    result = run_demo(given)
    _print(given, result, verbose=verbose)
    if not result.parity.ok:
        raise click.exceptions.Exit(FAILED)


def _print(options: Options, result: Result, *, verbose: bool) -> None:
    from lsq_export.qat.bit_widths import bit_widths

    say()
    print_summary(result.bundle.manifest, result.parity, speed=speed(result))
    print_line("files", f"{result.bundle.directory} (tables: report.html, or -v); checkpoints: {options.out}")
    print_verdict(result.parity)
    if verbose:
        widths = bit_widths(options.weight_bits, options.activation_bits)
        timing = f"latency: batch 1, {threads(result.bench.threads)}, median of {options.runs}"
        say()
        print_models(f"{options.model_name} {widths} on {result.parity.images} test digits; {timing}", result)
