"""Options of commands for single layers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from calib.errors import QuantizationError
from lsq_export.qat import layer_files

from .options import Command, FilePath, apply_options

if TYPE_CHECKING:
    from lsq_export.training.job import Job


def layer_options(command: Command) -> Command:
    """Which layers are treated differently."""
    return apply_options(
        command,
        click.option(
            "--layer",
            "--keep",
            "layer_wishes",
            multiple=True,
            metavar="PATTERN=WISH",
            help="Treat layers differently (--keep is the same); give it again. head=float keeps the layer head "
            "float, head=8 at 8 bits (weight and input); 'features.0*=weight_bits:8,activation_bits:4' sets what it "
            "names, of weight_bits, activation_bits, activation_grid, weight_granularity, offset. Later ones win, and "
            "all of them win over --first-last-bits.",
        ),
        click.option(
            "--layers",
            "layers_file",
            metavar="FILE",
            type=FilePath(path_type=Path, dir_okay=False),
            help='Read such wishes from a .json or .toml table, {"head": "float", "features.0*": 8, "fc": '
            '{"weight_bits": 4}}; those of --layer come after them.',
        ),
    )


def take_layers(options: dict[str, Any]) -> layer_files.Wishes:
    """What the two options wish; takes them out of `options`."""
    file, wishes = options.pop("layers_file"), layer_files.parse(options.pop("layer_wishes"))
    return layer_files.joined(layer_files.read_file(file) if file is not None else {}, wishes)


def check_layers(job: Job) -> None:
    """Whether the network has the layers that are wished for, before data and checkpoint are read.

    Its names are known as soon as it can be built without its data, on torch's meta device: without weights. One that
    cannot is checked later. Errors (QuantizationError): those of `settings_of_layers`.
    """
    if not job.config.layers:
        return
    import torch

    from lsq_export.models import SMALL_IMAGE, build, keywords
    from lsq_export.qat.prepare_model import settings_of_layers

    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            how = keywords(job.model_name, job.image_size or SMALL_IMAGE, job.variant)
            model = build(job.model_name, in_channels=job.channels or 3, **how)
    except QuantizationError:
        return
    settings_of_layers(model, job.config)
