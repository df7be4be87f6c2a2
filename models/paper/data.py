"""What the tables are measured on: digits made hard, or a folder of images, both with inputs in 0 … 1.

The inputs are not negative because configuration 1 has no negative codes: with the mean subtracted, LSQ would lose half
of each image in the first layer, and a comparison with LSQ+ would measure that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from lsq_export.data.augment import draw_moves, shift
from lsq_export.data.dataset import Dataset, Split, TensorSplit
from lsq_export.data.loading import load

from .digits import CLASSES, HardDigits

DATA_SEED = 2004_09576


def hard_digits(hard: HardDigits) -> Dataset:
    """The data set: train [10·train_per_class, 3, H, W], test [359·test_copies, 3, H, W]."""
    data = load("digits", image_size=hard.image_size)
    train, test = (_tensors(split) for split in (data.train, data.test))
    generator = torch.Generator().manual_seed(DATA_SEED)
    order = torch.randperm(len(train.y), generator=generator)
    chosen = torch.cat([order[train.y[order] == label][: hard.train_per_class] for label in range(CLASSES)])
    mean, std = (torch.tensor(data.preprocessing[key]).reshape(-1, 1, 1) for key in ("mean", "std"))

    def spoil(x: torch.Tensor) -> torch.Tensor:
        shifted = shift(x * std + mean, hard.shift, draw_moves(len(x), hard.shift, generator))
        noise = torch.randn(len(x), 1, *x.shape[2:], generator=generator)  # the same in all channels: images are gray
        return (shifted + hard.noise * noise).clamp(0.0, 1.0)

    copies = torch.cat([spoil(test.x) for _ in range(hard.test_copies)])
    return replace(
        data,
        name="hard digits",
        train=TensorSplit(spoil(train.x[chosen]), train.y[chosen]),
        test=TensorSplit(copies, test.y.repeat(hard.test_copies)),
    )


@dataclass(frozen=True)
class NotNegative:
    """A split whose images are x·std + mean of another one: values of 0 … 1 again."""

    split: Split
    mean: torch.Tensor  # [C, 1, 1]
    std: torch.Tensor

    def __len__(self) -> int:
        return len(self.split)

    def fetch(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = self.split.fetch(index)
        return x * self.std + self.mean, y


def load_folder(spec: str, image_size: int | None) -> Dataset:
    """The data set of `imagefolder:DIR`, in 0 … 1. Errors: those of `lsq_export.data.load`."""
    data = load(spec, image_size=image_size)
    mean, std = (torch.tensor(data.preprocessing[key]).reshape(-1, 1, 1) for key in ("mean", "std"))
    return replace(data, train=NotNegative(data.train, mean, std), test=NotNegative(data.test, mean, std))


def _tensors(split: Split) -> TensorSplit:
    assert isinstance(split, TensorSplit)
    return split
