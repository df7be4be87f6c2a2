"""Splits of samples, batches of them, and a data set with its preprocessing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from calib.errors import QuantizationError
from calib.samples import in_words, shape_of
from calib.words import counted

from .augment import draw_moves, shift
from .sample import Sample


class Split(Protocol):
    """Samples that can be fetched by index."""

    def __len__(self) -> int: ...

    def fetch(self, index: torch.Tensor) -> tuple[Any, torch.Tensor]:
        """index int64 [N] -> (x float32 [N, C, H, W], or `Samples` of several inputs, y int64 [N]), preprocessed."""
        ...


@dataclass(frozen=True, repr=False)
class TensorSplit:
    """Samples in memory: x float32 [M, C, H, W], or `Samples` of several inputs, y int64 [M].

    sources: the first ones as they were before preprocessing, [K, …].
    """

    x: Any
    y: torch.Tensor
    sources: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        return f"TensorSplit(x {in_words(shape_of(self.x))}, y {list(self.y.shape)})"

    def fetch(self, index: torch.Tensor) -> tuple[Any, torch.Tensor]:
        return self.x[index], self.y[index]

    def without_name(self) -> TensorSplit:
        """Of one input by name: the tensor alone."""
        return TensorSplit(next(iter(self.x.by_name.values())), self.y)

    def sample(self, index: int) -> Sample | None:
        if self.sources is None or index >= len(self.sources):
            return None
        return Sample(self.sources[index], self.x[index], int(self.y[index]) if self.y.dim() == 1 else None)


@dataclass(frozen=True)
class Batches:
    """(x float32 [N, C, H, W] or `Samples`, y int64 [N]) pairs, the same ones each time it is iterated.

    shuffle       seed of the order; None: the order of the split
    augment       shift each image by up to H/12 pixels (seeded, too); several inputs stay as they are
    drop_single   leave out a last batch of one sample, which batch norm cannot train on
    limit         stop after this many batches
    skip          begin after this many batches, with what would have come next
    share         (rank, ranks): the samples rank, rank + ranks, … of each batch; it may be empty. All ranks together
                  have the samples of the whole batch, each moved as it would be there
    """

    split: Split
    batch_size: int = 64
    shuffle: int | None = None
    augment: bool = False
    drop_single: bool = False
    limit: int | None = None
    skip: int = 0
    share: tuple[int, int] = (0, 1)

    def __len__(self) -> int:
        size = len(self.split)
        count = math.ceil(size / self.batch_size) - (self.drop_single and size % self.batch_size == 1)
        return max(0, (count if self.limit is None else min(count, self.limit)) - self.skip)

    def __iter__(self) -> Iterator[tuple[Any, torch.Tensor]]:
        generator = torch.Generator().manual_seed(self.shuffle or 0)
        size = len(self.split)
        order = torch.arange(size) if self.shuffle is None else torch.randperm(size, generator=generator)
        rank, ranks = self.share
        for i, index in enumerate(torch.split(order, self.batch_size)[: self.skip + len(self)]):
            if i < self.skip and not self.augment:
                continue
            own = index[rank::ranks] if i >= self.skip else index[:0]
            x, y = self.split.fetch(own if len(own) else index[:1])
            if self.augment and isinstance(x, torch.Tensor):  # drawn for the whole batch, in any case
                pixels = max(1, x.shape[-2] // 12)
                moves = draw_moves(len(index), pixels, generator)[:, rank::ranks]
                x = shift(x, pixels, moves) if len(own) else x
            if i >= self.skip:
                yield x[: len(own)], y[: len(own)]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where images come from, in words; "" where there is nothing to say.

    sizes: of the images, width × height, before preprocessing. split: how a source without a test split was split.
    note: on a size that nobody asked for.
    """

    sizes: str = ""
    split: str = ""
    note: str = ""


@dataclass(frozen=True, repr=False)
class Dataset:
    """A data set with a train and a test split.

    input_shape: (C, H, W); {name: shape} of several inputs.
    preprocessing: how a source image becomes an input, JSON-able: `resize` to [H, W], or the shorter side to one
    number; center `crop` to that many pixels; divide by `divide_by`; subtract `mean` and divide by `std` per channel.
    A step that is None is left out.
    num_classes: 0 of samples that have no classes; their y is [M, 0]. classes: the names of the classes, if they are
    known.
    source: what `describe` says of the images and the splits beside that.
    """

    name: str
    train: Split
    test: Split
    num_classes: int
    input_shape: Any
    preprocessing: dict[str, Any]
    classes: tuple[str, ...] | None = None
    source: Source = Source()

    @property
    def of_images(self) -> bool:
        """Whether the network takes one image, and not several inputs."""
        return not isinstance(self.input_shape, Mapping)

    def sample(self) -> Sample | None:
        """The first test sample, before and after its preprocessing, for those who receive a bundle.

        None where its source is not known.
        """
        sample = getattr(self.test, "sample", None)  # a split of one's own need not have it
        return sample(0) if sample else None

    def __repr__(self) -> str:
        sizes = f"{counted(len(self.train), 'sample')} to train, {len(self.test)} to test"
        return f"Dataset {self.name}: {sizes}, {self.num_classes or 'no'} classes, inputs {in_words(self.input_shape)}"

    def batches(
        self,
        split: str,
        batch_size: int = 64,
        *,
        shuffle: int | None = None,
        augment: bool = False,
        drop_single: bool = False,
        limit: int | None = None,
        skip: int = 0,
        share: tuple[int, int] = (0, 1),
    ) -> Batches:
        """Batches of the split "train" or "test"; the keywords are those of `Batches`."""
        if split not in ("train", "test"):
            raise QuantizationError(f"split {split!r} is unknown: use train or test")
        if batch_size < 1:
            raise QuantizationError(f"batch size is {batch_size}: use 1 or more")
        return Batches(
            self.train if split == "train" else self.test,
            batch_size,
            shuffle=shuffle,
            augment=augment,
            drop_single=drop_single,
            limit=limit,
            skip=skip,
            share=share,
        )
