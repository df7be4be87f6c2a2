"""What `lsq-export train` makes of its options: a job, or with --check a look at the float checkpoint alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .checkpoint_options import take_start
from .group import FAILED
from .layer_options import check_layers
from .output import console, print_json, say
from .train_files import Files
from .train_options import take_config, take_recipes

if TYPE_CHECKING:
    from lsq_export.training.job import Job


def take_job(options: dict[str, Any]) -> Job:
    """Options -> job. An option that was left out keeps the recipe's value.

    Errors (QuantizationError): options that cannot be, layers that the network does not have.
    """
    from lsq_export.training.job import Job

    float_recipe, recipe = take_recipes(options)
    job = Job(config=take_config(options), float_recipe=float_recipe, recipe=recipe, **options)
    check_layers(job)
    return job


def check_only(options: dict[str, Any], as_json: bool) -> None:
    """Print the float accuracy of the checkpoint, and write nothing. Exit code 1: these weights should do better, by
    what the file says or by what other settings give.

    Errors (click.UsageError): --out is missing, and it is no check. QuantizationError: as in training.
    """
    if not options.pop("check"):
        raise click.UsageError("Missing option '--out': give a name that ends in .safetensors, or --check")
    for name in Files.OPTIONS:
        options.pop(name)
    start = take_start(options, resume=False)
    if start is None:
        raise click.UsageError("--check is for --float-checkpoint: give one, too")
    from calib.samples import plain_shape
    from lsq_export.training.first_look import doubtful
    from lsq_export.training.float_phase import look_at

    job = take_job(options)
    data, look = look_at(job, start, console(stderr=True))
    stated = None if look.stated is None else {"name": look.stated.name, "accuracy": look.stated.accuracy}
    better = None if look.better is None else {"options": look.better.options, "accuracy": look.better.best}
    if as_json:
        values = {"float_accuracy": look.accuracy, "images": len(data.test), "stated": stated, "better": better}
        print_json({**values, "input_shape": plain_shape(data.input_shape), "preprocessing": data.preprocessing})
    else:
        say(f"{look.accuracy:.2%} of {len(data.test):,} test images; nothing was trained or written (--check)")
    if doubtful(look):
        raise click.exceptions.Exit(FAILED)
