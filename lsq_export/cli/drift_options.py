"""The options of `lsq-export drift`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from calib.errors import QuantizationError

from .arguments import DATA
from .options import IMAGE_SIZE, Command, Count, FilePath, Number, apply_options
from .output import check_new

if TYPE_CHECKING:
    from calib.initialization.first_grids import Method

SHARE, COUNT = Number(0, 1), Count(1)


@dataclass(frozen=True, kw_only=True)
class DriftOptions:
    """What the command line asks for; None where it leaves a value to the checkpoint or to `calib.drift`."""

    checkpoint: Path
    named: str | None
    trust: bool
    data_spec: str
    split: str
    against: str | None
    batches: int | None
    batch_size: int
    image_size: int | None
    max_clipped: float | None
    min_codes: float | None
    max_error: float | None
    out: Path | None
    method: Method
    rounds: int
    force: bool
    as_json: bool

    def check(self) -> None:
        """What can be known before anything is computed. Errors (QuantizationError, click.UsageError)."""
        from lsq_export.training.named_code import check_builder

        check_builder(self.checkpoint, self.named, self.trust)
        self.check_output()

    def check_output(self) -> None:
        """Whether --reinit can be written, before the work and not after it. Errors (click.UsageError)."""
        out = self.out
        if out is None:
            return
        if out.exists() and not self.force:
            raise click.UsageError(f"--reinit {out} exists: give another name, or --force to overwrite it")
        if out.exists() and self.checkpoint.exists() and out.samefile(self.checkpoint):
            raise click.UsageError(f"--reinit {out} exists: that is the checkpoint itself: give another name")
        if out.is_file() and not _is_checkpoint(out):
            raise click.UsageError(f"--reinit {out} exists and is no checkpoint: give another name")
        if not out.parent.is_dir():
            raise click.UsageError(f"--reinit {out}: the directory {out.parent} does not exist; create it first")
        check_new("--reinit", out)


def _is_checkpoint(path: Path) -> bool:
    from lsq_export.training.checkpoint_header import FORMAT_KEY, metadata_of

    try:
        return FORMAT_KEY in metadata_of(path)
    except QuantizationError:
        return False


def measuring_options(command: Command) -> Command:
    """Which data to measure, and what to compare them with."""
    return apply_options(
        command,
        click.option(
            "--data",
            "data_spec",
            required=True,
            type=DATA,
            metavar="SPEC",
            help="Measure these data, as they are now: digits, imagefolder:DIR, npz:FILE, npy:DIR or "
            "package.module:function.",
        ),
        click.option(
            "--split", type=click.Choice(["test", "train", "all"]), default="test", help="Take these images of --data."
        ),
        click.option(
            "--against",
            type=DATA,
            metavar="SPEC",
            help="Compare with the train split of these data.  [default: with the record in the checkpoint]",
        ),
        click.option("--batches", type=COUNT, help="Take at most this many batches of --data.  [default: all]"),
        click.option("--batch-size", type=COUNT, default=64, help="Run this many images at a time."),
        click.option(
            "--image-size",
            type=IMAGE_SIZE,
            help="Scale the images to this height and width.  [default: those of the checkpoint]",
        ),
    )


def limit_options(command: Command) -> Command:
    """When a quantizer has left its range."""
    return apply_options(
        command,
        click.option(
            "--max-clipped",
            type=SHARE,
            help="Allow the clipped share (0-1) to grow by this much on a side.  [default: 0.01]",
        ),
        click.option(
            "--min-codes",
            type=SHARE,
            help="Report a quantizer that uses at most this share of the codes it used in calibration.  [default: 0.5]",
        ),
        click.option(
            "--max-error",
            type=Number(1),
            help="Allow the relative error to be this many times that of calibration.  [default: 4]",
        ),
    )


def reinit_options(command: Command) -> Command:
    """What to do about a quantizer that has left its range."""
    return apply_options(
        command,
        click.option(
            "--reinit",
            "out",
            type=FilePath(path_type=Path, dir_okay=False),
            help="Give the quantizers that left their range new grids, and write this checkpoint with them.",
        ),
        click.option(
            "--method",
            type=click.Choice(["minmax", "lsq", "mse"]),
            default="mse",
            help="Find the new grids of --reinit by this method.",
        ),
        click.option(
            "--rounds",
            type=COUNT,
            default=8,
            help="Look for new grids of --reinit at most this many times.",
        ),
        click.option("--force", is_flag=True, help="Overwrite the file that --reinit names."),
    )
