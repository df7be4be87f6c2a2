"""The options of `lsq-export train`, and the configuration and recipes that they make."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from lsq_export.qat.config import ACTIVATION_GRIDS, EDGES, GRANULARITIES, OFFSETS, QATConfig

from .layer_options import take_layers
from .options import IMAGE_SIZE, Command, Count, Number, Seed, apply_options
from .thread_options import BY_SIZE, threads_option

if TYPE_CHECKING:
    from lsq_export.training.fit import Recipe

DEFAULTS = QATConfig()
BOTH = ("batch_size", "optimizer", "schedule", "label_smoothing", "ema", "augment")
LOW_BIT = ("grid_lr", "offset_lr", "distill", "temperature")
BITS, COUNT, RATE = Count(2, 8), Count(1), Number(0, min_open=True)
FRACTION = Number(0, 1, max_open=True)


class Resize(click.ParamType):  # type: ignore[type-arg]
    """Pixels of the shorter side, or "stretch"."""

    name = "PIXELS|stretch"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        text = str(value)
        if text == "stretch":
            return text
        if not text.isdecimal() or int(text[:10]) < 1:
            self.fail(f"{value!r:.80}: use the pixels of the shorter side, or stretch", param, ctx)
        return int(IMAGE_SIZE.convert(text, param, ctx))


def _bits_or_none(ctx: click.Context, param: click.Parameter, value: str) -> int | None:
    if value == "none":
        return None
    if value not in map(str, range(2, 9)):
        raise click.BadParameter(f"{value!r}: use 2 to 8, or none")
    return int(value)


def quantization_options(command: Command) -> Command:
    """Which quantizers the network gets, and where their scales and offsets start."""
    return apply_options(
        command,
        click.option("--weight-bits", type=BITS, default=DEFAULTS.weight_bits, help="Quantize weights to this width."),
        click.option(
            "--activation-bits",
            type=BITS,
            default=DEFAULTS.activation_bits,
            help="Quantize activations to this width.",
        ),
        click.option(
            "--first-last-bits",
            default=str(DEFAULTS.first_last_bits or "none"),
            metavar="BITS",
            callback=_bits_or_none,
            help="Quantize the first and the last layer to this width; none: to that of the rest.",
        ),
        click.option(
            "--grid",
            type=click.Choice(ACTIVATION_GRIDS),
            default=DEFAULTS.activation_grid,
            help="Use this grid for activations: the LSQ+ configurations 1-4 (unsigned-symmetric is LSQ).",
        ),
        click.option(
            "--granularity",
            type=click.Choice(GRANULARITIES),
            default=DEFAULTS.weight_granularity,
            help="Learn one weight scale per tensor or per channel.",
        ),
        click.option(
            "--offset",
            type=click.Choice(OFFSETS),
            default=DEFAULTS.offset,
            help="Learn offsets that are real, multiples of the scale, or multiples of the steps of 8-bit containers.",
        ),
        click.option(
            "--edges",
            type=click.Choice(EDGES),
            default=DEFAULTS.edges,
            help="Make the 8-bit grids of sums at export (calibrated), or as part of the training, which torch.fx must "
            "be able to trace (trained). auto: trained where it can, else calibrated, and it says so.",
        ),
        click.option(
            "--init-method",
            type=click.Choice(["minmax", "lsq", "mse"]),
            default="mse",
            help="Find the first scales and offsets of activations by this method.",
        ),
        click.option(
            "--weight-init",
            type=click.Choice(["lsq+", "mse"]),
            default="lsq+",
            help="Find the first weight scales by the paper's rule, or by least error.",
        ),
        click.option("--init-batches", type=COUNT, default=4, help="Start scales and offsets from this many batches."),
    )


def phase_options(command: Command) -> Command:
    """How long each of the two phases trains, on what batches."""
    return apply_options(
        command,
        click.option(
            "--epochs",
            type=Count(0),
            help="Train this many low-bit epochs; 0: only initialize.  [default: the recipe's]",
        ),
        click.option(
            "--lr", type=RATE, help="Use this highest learning rate in low-bit training.  [default: the recipe's]"
        ),
        click.option(
            "--float-epochs",
            type=Count(0),
            help="Train this many float epochs before that; 0: none.  [default: the recipe's, or 0 with "
            "--float-checkpoint and without --new-head]",
        ),
        click.option(
            "--float-lr", type=RATE, help="Use this highest learning rate in float training.  [default: the recipe's]"
        ),
        click.option("--batch-size", type=Count(2), default=64, help="Take this many images per step."),
        click.option(
            "--image-size",
            type=IMAGE_SIZE,
            help="Give the network images of this height and width, which --resize makes.  [default: 32 for digits; "
            "224 for imagefolder, or the size of its images where that is less than half]",
        ),
        click.option(
            "--resize",
            type=Resize(),
            help="Scale the shorter side of the images of imagefolder to this, then take the center of --image-size. "
            "Pixels (256 for 224, as torchvision), or stretch: scale both sides to --image-size, and cut nothing.  "
            "[default: 8/7 of --image-size; below 112 pixels, and where images have just that size, --image-size]",
        ),
    )


def recipe_options(command: Command) -> Command:
    """How to train. An option that is left out keeps the value of the recipe of the optimizer and the phase."""
    return apply_options(
        command,
        click.option(
            "--optimizer",
            type=click.Choice(["sgd", "adam"]),
            default="sgd",
            help="Train both phases with SGD with Nesterov momentum, or with AdamW.",
        ),
        click.option(
            "--schedule",
            type=click.Choice(["cosine", "one-cycle"]),
            default="cosine",
            help="Let the learning rate of both phases follow this schedule.",
        ),
        click.option(
            "--grid-lr",
            type=Number(0),
            help="Multiply --lr by this for scales and offsets.  [default: the recipe's]",
        ),
        click.option("--offset-lr", type=Number(0), help="Multiply --lr by this for offsets.  [default: --grid-lr]"),
        click.option(
            "--label-smoothing",
            type=FRACTION,
            default=0.0,
            help="Spread this share of the target evenly over all classes.",
        ),
        click.option(
            "--ema",
            type=FRACTION,
            default=0.0,
            metavar="DECAY",
            help="Test and keep an average over the steps' parameters, with this decay (such as 0.99). 0: off.",
        ),
        click.option(
            "--distill",
            type=Number(0, 1),
            default=0.0,
            is_flag=False,
            flag_value=0.5,
            metavar="[WEIGHT]",
            help="Learn from the float model's logits as well, with this weight (0.5 without a number). 0: off.",
        ),
        click.option("--temperature", type=RATE, default=1.0, help="Soften the logits of --distill by this."),
        click.option(
            "--augment/--no-augment",
            default=True,
            help="Shift each training image by up to a twelfth of its height, up or down and left or right, and repeat "
            "the border; another shift each time.",
        ),
    )


def machine_options(command: Command) -> Command:
    """Where it runs; no option here changes the recipe."""
    return apply_options(
        command,
        threads_option(BY_SIZE),
        click.option(
            "--seed", type=Seed(), default=0, help="Draw the first weights and the order of the data from this."
        ),
        click.option(
            "--device", metavar="NAME", help="Train on cpu, cuda, cuda:1, …  [default: cuda where there is one]"
        ),
        click.option(
            "--fused",
            is_flag=True,
            help="Use compiled kernels for low-bit training: 10-15 % faster; needs a C++ compiler, and 10 s to start.",
        ),
        click.option(
            "--save-memory", is_flag=True, help="Train low-bit in about the memory of float training, 5-10 % slower."
        ),
    )


def take_recipes(options: dict[str, Any]) -> tuple[Recipe, Recipe]:
    """(float recipe, low-bit recipe); takes their options out of `options`."""
    from lsq_export.training.fit import FINETUNE, FINETUNE_ADAM, PRETRAIN, PRETRAIN_ADAM

    bases = (PRETRAIN_ADAM, FINETUNE_ADAM) if options["optimizer"] == "adam" else (PRETRAIN, FINETUNE)
    low_bit = {name: options.pop(name) for name in (*BOTH, *LOW_BIT) if name in options}
    shared = {name: value for name, value in low_bit.items() if name in BOTH}
    shared |= {name: options.pop(f"float_{name}") for name in ("epochs", "lr")}
    low_bit |= {name: options.pop(name) for name in ("epochs", "lr")}
    float_recipe, recipe = (
        replace(base, **{name: value for name, value in values.items() if value is not None})
        for base, values in zip(bases, (shared, low_bit), strict=True)
    )
    return float_recipe, recipe


def take_config(options: dict[str, Any]) -> QATConfig:
    """The configuration of the quantizers; takes its options out of `options`."""
    names = ("weight_bits", "activation_bits", "first_last_bits", "offset", "edges")
    return QATConfig(
        activation_grid=options.pop("grid"),
        weight_granularity=options.pop("granularity"),
        layers=take_layers(options),
        **{name: options.pop(name) for name in names},
    )
