"""Settings of a training run, and what it gives back."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

from calib.errors import QuantizationError
from calib.tables import Table, Tabular, percent

OptimizerName = Literal["sgd", "adam"]
ScheduleName = Literal["cosine", "one-cycle"]


@dataclass(frozen=True)
class Recipe:
    """Settings of one training run.

    lr               the highest learning rate
    warmup           epochs from 0 to lr; then a cosine goes down to 0
    augment          each training image is shifted by up to a twelfth of its height, in both directions, and its border
                     repeated
    grid_lr          factor on lr for scales and offsets
    offset_lr        factor on lr for offsets alone; None: grid_lr
    clip_norm        gradients longer than this (all parameters together) are shortened to it; 0: never
    optimizer        "sgd" (Nesterov), or "adam": AdamW (arXiv:1711.05101), whose decay is decoupled; momentum is then
                     its β1
    schedule         "cosine", or "one-cycle" (arXiv:1708.07120): lr/25 up to lr over 30 % of the steps, then down,
                     momentum the other way, without warmup
    label_smoothing  share of the target that all classes get evenly (arXiv:1512.00567)
    ema              decay of an average over the parameters of all steps, which is what is tested and kept: it reaches
                     back some 1/(1 - ema) steps; 0: off. Buffers (statistics of batch norms) are copied
    distill          weight of the distance to a float teacher's soft targets (arXiv:1503.02531), the rest is the cross
                     entropy; 0: off
    temperature      temperature of these soft targets

    Errors (QuantizationError): a value outside its range.
    """

    epochs: int
    lr: float
    batch_size: int = 64
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 1.0
    augment: bool = True
    grid_lr: float = 1.0
    clip_norm: float = 0.0
    optimizer: OptimizerName = "sgd"
    schedule: ScheduleName = "cosine"
    offset_lr: float | None = None
    label_smoothing: float = 0.0
    ema: float = 0.0
    distill: float = 0.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        for option, names in (("optimizer", get_args(OptimizerName)), ("schedule", get_args(ScheduleName))):
            if getattr(self, option) not in names:
                raise QuantizationError(f"{option} is {getattr(self, option)!r}: use {' or '.join(names)}")
        for option, least, most in (("label_smoothing", 0, 1), ("ema", 0, 1), ("momentum", 0, 1)):
            if not least <= getattr(self, option) < most:
                raise QuantizationError(f"{option} is {getattr(self, option)}: use {least} or more, less than {most}")
        for option in ("weight_decay", "warmup", "grid_lr", "clip_norm", "offset_lr"):
            if not (getattr(self, option) is None or 0 <= getattr(self, option) < math.inf):
                raise QuantizationError(f"{option} is {getattr(self, option)}: use 0 or more")
        for option in ("lr", "temperature"):
            if not 0 < getattr(self, option) < math.inf:
                raise QuantizationError(f"{option} is {getattr(self, option)}: use more than 0")
        if not 0 <= self.distill <= 1:
            raise QuantizationError(f"distill is {self.distill}: use 0 (off) to 1 (soft targets alone)")


PRETRAIN = Recipe(epochs=25, lr=0.05)
# Low-bit training is less forgiving: without the two safeguards one seed in three diverged at W2A2 (8-bit weight scales
# grew a thousandfold).
FINETUNE = Recipe(epochs=10, lr=0.03, weight_decay=1e-4, grid_lr=0.1, clip_norm=1.0)
# AdamW's steps are as long as lr, whatever the gradient: the defaults of torch. (QAT of `tiny` on digits, W2A2, lost a
# point or two with 3e-4.)
PRETRAIN_ADAM = replace(PRETRAIN, optimizer="adam", lr=1e-3, weight_decay=1e-2)
FINETUNE_ADAM = replace(FINETUNE, optimizer="adam", lr=1e-3, weight_decay=1e-2)


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave: mean training loss, accuracies in 0-1, wall time in seconds.

    epoch: its number, from 1. lr: the learning rate of its last step.
    """

    epoch: int
    loss: float
    train_accuracy: float
    test_accuracy: float
    seconds: float
    lr: float


@dataclass(frozen=True, repr=False)
class TrainResult(Tabular):
    """The completed epochs.

    interrupted: stopped by Ctrl-C; the model is then in the state of the last completed epoch.
    """

    epochs: tuple[Epoch, ...]
    interrupted: bool
    device: str
    recipe: Recipe

    @property
    def table(self) -> Table:
        """What is shown: one row for each epoch."""
        end = ", interrupted" if self.interrupted else ""
        of = f", test accuracy {self.accuracy:.2%}" if self.epochs else ""
        columns = (">epoch", ">loss", ">train accuracy", ">test accuracy", ">s", ">learning rate")
        rows = [
            (
                e.epoch,
                f"{e.loss:.4f}",
                percent(e.train_accuracy),
                percent(e.test_accuracy),
                f"{e.seconds:.1f}",
                f"{e.lr:.2g}",
            )
            for e in self.epochs
        ]
        return Table(f"{len(self.epochs)} of {self.recipe.epochs} epochs on {self.device}{of}{end}", columns, rows)

    @property
    def accuracy(self) -> float:
        """Test accuracy (0-1) of the last completed epoch; NaN if there is none."""
        return self.epochs[-1].test_accuracy if self.epochs else math.nan
