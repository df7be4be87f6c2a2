"""Data sets: `digits` (shipped with scikit-learn), `imagefolder:DIR` and `npz:FILE`.

    data = load("digits")
    for x, y in data.batches("train", 64, shuffle=0, augment=True): ...     # x float32 [N, C, H, W], y int64 [N]

Where a source has no split of its own, 20 % of each class, drawn with a fixed seed, are the test split.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F

from calib.errors import QuantizationError

TEST_FRACTION = 0.2
SPLIT_SEED = 0
EXTRA = "pip install lsq-export[data]"


class Split(Protocol):
    """Samples that can be fetched by index."""

    def __len__(self) -> int: ...

    def fetch(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """index int64 [N] -> (x float32 [N, C, H, W], y int64 [N]), preprocessed."""
        ...


@dataclass(frozen=True)
class TensorSplit:
    """Samples in memory: x float32 [M, C, H, W], y int64 [M]."""

    x: torch.Tensor
    y: torch.Tensor

    def __len__(self) -> int:
        return len(self.y)

    def fetch(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.x[index], self.y[index]


@dataclass(frozen=True)
class Batches:
    """(x float32 [N, C, H, W], y int64 [N]) pairs, the same ones each time it is iterated.

    shuffle: seed of the order, None for the order of the split. augment: shift each image by up to H/12 pixels (seeded, too).
    drop_single: leave out a last batch of one sample, which batch norm cannot train on. limit: stop after that many batches.
    skip: begin behind that many, with what would have come. share: (rank, number of ranks): every so-manieth sample of each batch, beginning with
    that one; all ranks together have the samples of the whole batch, each moved as it would be there. A share may be empty.
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

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        generator = torch.Generator().manual_seed(self.shuffle or 0)
        size = len(self.split)
        order = torch.arange(size) if self.shuffle is None else torch.randperm(size, generator=generator)
        rank, ranks = self.share
        for i, index in enumerate(order.split(self.batch_size)[: self.skip + len(self)]):
            if i < self.skip and not self.augment:
                continue
            mine = index[rank::ranks] if i >= self.skip else index[:0]
            x, y = self.split.fetch(mine if len(mine) else index[:1])
            if self.augment:  # drawn for the whole batch, in any case
                pixels = max(1, x.shape[-2] // 12)
                moves = draw_moves(len(index), pixels, generator)[:, rank::ranks]
                x = shift(x, pixels, moves) if len(mine) else x
            if i >= self.skip:
                yield x[: len(mine)], y[: len(mine)]


@dataclass(frozen=True)
class Dataset:
    """A data set with a train and a test split.

    input_shape: (C, H, W). preprocessing: JSON-able, how a source image becomes an input: `resize` to [H, W], or the shorter side to one number;
    center `crop` to that many pixels; divide by `divide_by`; subtract `mean` and divide by `std` per channel. None: that step is left out.
    """

    name: str
    train: Split
    test: Split
    num_classes: int
    input_shape: tuple[int, int, int]
    preprocessing: dict[str, Any]

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
        return Batches(self.train if split == "train" else self.test, batch_size, shuffle, augment, drop_single, limit, skip, share)


def load(spec: str, *, image_size: int | None = None, channels: int | None = None) -> Dataset:
    """The data set that `spec` names: `digits`, `imagefolder:DIR` or `npz:FILE`.

    image_size: height and width, by default 32 for digits and 224 for imagefolder. channels: 1 or 3, by default 3.
    The images of an npz file stay as they are: there the two are only checked.

    Errors (QuantizationError): an unknown spec, and everything in the files that cannot be used, with its place.
    """
    kind, _, argument = spec.partition(":")
    if channels not in (None, 1, 3):
        raise QuantizationError(f"channels is {channels}: use 1 (gray) or 3 (RGB)")
    if image_size is not None and image_size < 1:
        raise QuantizationError(f"image size is {image_size}: use 1 or more pixels")
    if spec == "digits":
        return _digits(image_size or 32, channels or 3)
    if kind == "imagefolder" and argument:
        from .imagefolder import load_imagefolder

        return load_imagefolder(Path(argument), image_size or 224, channels or 3)
    if kind == "npz" and argument:
        from .npz import load_npz

        return load_npz(Path(argument), image_size, channels)
    raise QuantizationError(f"data {spec!r} is unknown: use digits, imagefolder:DIR or npz:FILE")


def stratified_split(y: np.ndarray, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Indices (train, test), both sorted. TEST_FRACTION of each class, rounded and at least one, is test; a class of one sample is train."""
    rng = np.random.default_rng(SPLIT_SEED)
    test: list[int] = []
    for label in np.unique(y):
        members = rng.permutation(np.flatnonzero(y == label))
        if len(members) > 1:
            test.extend(members[: max(1, round(TEST_FRACTION * len(members)))])
    if not test:
        raise QuantizationError(f"{where}: no class has two samples, so there is nothing to test on; add samples or give a test split")
    return np.setdiff1d(np.arange(len(y)), test), np.sort(np.array(test, dtype=np.int64))


def draw_moves(count: int, pixels: int, generator: torch.Generator) -> torch.Tensor:
    """How far each of `count` images moves: rows and columns, 0 … 2·pixels, int64 [2, count]."""
    return torch.randint(0, 2 * pixels + 1, (2, count), generator=generator)


def shift(x: torch.Tensor, pixels: int, moves: torch.Tensor) -> torch.Tensor:
    """Each image of x [N, C, H, W] moved by `moves` [2, N] less `pixels`, so by -pixels … pixels; the border is repeated."""
    n, _, height, width = x.shape
    padded = F.pad(x, (pixels,) * 4, mode="replicate")  # [N, C, H + 2p, W + 2p]
    top, left = moves
    rows = top[:, None] + torch.arange(height)  # [N, H]
    columns = left[:, None] + torch.arange(width)  # [N, W]
    moved = padded[torch.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # [N, H, W, C]
    return moved.permute(0, 3, 1, 2).contiguous()


def _digits(image_size: int, channels: int) -> Dataset:
    """1797 real handwritten digits, 8x8 with values 0 … 16 (UCI "Optical Recognition of Handwritten Digits"): 1438 to train, 359 to test."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise QuantizationError(f"data 'digits' needs scikit-learn: {EXTRA}") from error
    source = load_digits()
    y = np.asarray(source.target, dtype=np.int64)
    x = torch.from_numpy(np.asarray(source.images, dtype=np.float32) / 16)[:, None]  # [M, 1, 8, 8], 0 … 1
    x = F.interpolate(x, size=(image_size, image_size), mode="bilinear", align_corners=False).expand(-1, channels, -1, -1)  # [M, C, H, W]
    train, test = stratified_split(y, "digits")
    mean = round(float(x[torch.from_numpy(train)].double().mean()), 4)
    std = round(float(x[torch.from_numpy(train)].double().std()), 4)
    x = (x - mean) / std
    labels = torch.from_numpy(y)
    return Dataset(
        name="digits",
        train=TensorSplit(x[torch.from_numpy(train)], labels[torch.from_numpy(train)]),
        test=TensorSplit(x[torch.from_numpy(test)], labels[torch.from_numpy(test)]),
        num_classes=10,
        input_shape=(channels, image_size, image_size),
        preprocessing={
            "data": "digits",
            "resize": [image_size, image_size],
            "interpolation": "bilinear",
            "crop": None,
            "divide_by": 16.0,
            "mean": [mean] * channels,
            "std": [std] * channels,
        },
    )
