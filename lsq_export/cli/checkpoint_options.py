"""The options of `lsq-export train` for weights that were trained before, and for what they were trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import Command, FilePath, apply_options


class Numbers(click.ParamType):  # type: ignore[type-arg]
    """One number, or several with commas between them: a tuple."""

    name = "NUMBERS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r}: use one number, or one for each channel, such as 0.485,0.456,0.406", param, ctx)


MEAN_AND_STD = [
    click.option(
        f"--{what}",
        type=Numbers(),
        help=f"{verb} the pixels, 0 to 1, by this, or by one number for each channel (0.5,0.5,0.5).  "
        "[default: ImageNet's for imagefolder, the data's for digits, none for npz]",
    )
    for what, verb in (("mean", "Lower"), ("std", "Then divide"))
]


def checkpoint_options(command: Command) -> Command:
    """Which weights the float model starts with, and where it goes."""
    return apply_options(
        command,
        click.option(
            "--float-checkpoint",
            metavar="FILE",
            type=FilePath(path_type=Path),
            help="Start from these float weights instead of training: a state_dict (.safetensors, or .pt, .pth, .bin "
            "of torch.save), or what --float-out wrote. With --float-epochs, train them on.",
        ),
        click.option(
            "--new-head",
            is_flag=True,
            help="Draw the last layer of --float-checkpoint anew, for other classes, and train the float model on.",
        ),
        click.option(
            "--use-ema", is_flag=True, help="Take the averaged weights (EMA) of --float-checkpoint, not the plain ones."
        ),
        click.option(
            "--variant",
            type=click.Choice(["published", "small"]),
            help="Build efficientnet_b0 and mixnet_s as published, or half as wide and with a stem of stride 1.  "
            "[default: that of --float-checkpoint, else small below 64 pixels]",
        ),
        click.option(
            "--check",
            is_flag=True,
            help="Only say the float accuracy of --float-checkpoint on these data: train nothing, write nothing. Exit "
            "code 1: it is far below what the file says, or another size or normalization is clearly better.",
        ),
        click.option(
            "--anyway",
            is_flag=True,
            help="Go on with a --float-checkpoint that is hardly better than guessing.",
        ),
        click.option(
            "--float-out",
            type=FilePath(path_type=Path, dir_okay=False),
            help="Write the float model to this file, for --float-checkpoint.",
        ),
    )


def normalization_options(command: Command) -> Command:
    """What the network gets to see of an image: its channels, and their values."""
    return apply_options(
        command,
        click.option(
            "--channels",
            type=click.Choice(["1", "3"]),
            callback=lambda ctx, param, value: value and int(value),
            help="Read images in gray (1) or in color (3).  [default: 3, or the file's for npz]",
        ),
        *MEAN_AND_STD,
    )


def mean_std_options(command: Command) -> Command:
    """What becomes of the values of an image before the network sees them."""
    return apply_options(command, *MEAN_AND_STD)


def take_start(options: dict[str, Any], resume: bool) -> Path | None:
    """The float checkpoint, which `options` loses; they get the number of float epochs where it decides that.

    resume: the state of the run says then whether it is the right file. Errors (click.UsageError): options that need a
    checkpoint, and none is given; a file that does not exist.
    """
    start: Path | None = options.pop("float_checkpoint")
    if start is None:
        for name in ("new_head", "use_ema", "check", "anyway"):
            if options.get(name):
                raise click.UsageError(f"--{name.replace('_', '-')} is for --float-checkpoint: give one, too")
        return None
    if not resume and not start.exists():
        raise click.UsageError(f"checkpoint {start} does not exist: check the path after --float-checkpoint")
    if options["float_epochs"] is None and not options["new_head"]:
        options["float_epochs"] = 0
    return start
