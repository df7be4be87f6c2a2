"""Would the weights of a checkpoint do better with images of another size, or normalized in another way?

A few usual ones are tried on a few test images, in bounded time, which finds what is forgotten most: an image size, or
the mean and std of a training.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn

from lsq_export.data.dataset import Dataset, Split
from lsq_export.data.description import numbers
from lsq_export.data.image_sizes import chosen, measured
from lsq_export.data.imagefolder import GRAY_MEAN, GRAY_STD, MEAN, STD, ImageSplit

from .predict import predict

IMAGES = 200  # at most
SECONDS = 30.0  # after which no other setting is begun
CLEARLY = 0.05  # by how much, 0-1, the accuracy on these images has to be better
SURE = 3.0  # standard deviations of what chance makes of the difference
SMALL_SIZES, SIZES = (28, 32, 48, 64), (224, 128, 256, 96, 160, 192, 299, 384)  # in the order in which they are tried
NORMALIZATIONS: dict[int, tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]] = {  # {channels: (mean, std)}
    3: (
        (MEAN, STD),
        ((0.5,) * 3, (0.5,) * 3),
        ((0.0,) * 3, (1.0,) * 3),
        ((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)),  # CIFAR-10
    ),
    1: (((GRAY_MEAN,), (GRAY_STD,)), ((0.5,), (0.5,)), ((0.0,), (1.0,)), ((0.1307,), (0.3081,))),  # the last: MNIST
}


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What was found. tried: how many settings, the given one among them. images: on how many test images.

    given, best: accuracies on them, 0-1. options: of `train`, for the best; "" where none is clearly better.
    beyond_chance: whether images that the best alone gets right outweigh those that it alone gets wrong by more than
    chance makes of that (McNemar's test, at three standard deviations since the best of many is taken).
    """

    tried: int
    images: int
    given: float
    best: float
    options: str
    beyond_chance: bool = False


def try_others(model: nn.Module, data: Dataset, seconds: float = SECONDS) -> Tried:
    """Accuracies with other sizes (of imagefolder) and normalizations. Pixels that are not 0 to 1 are left alone."""
    begin, count = time.monotonic(), min(IMAGES, len(data.test))
    index = torch.linspace(0, len(data.test) - 1, count).round().long()
    x, target = data.test.fetch(index)
    as_given = _right(model, x, target) if data.of_images else None
    before = after = torch.zeros(count, dtype=torch.bool) if as_given is None else as_given
    given = best = _share(before)
    tried, options = 1, ""
    for size, pixels in _pixels(data, index, x) if data.of_images else ():
        for mean, std in _normalizations(data, pixels):
            if time.monotonic() - begin > seconds:
                break
            right = _right(model, (pixels - _shaped(mean)) / _shaped(std), target)
            if right is None:
                break  # the network takes no such size
            tried, found = tried + 1, _share(right)
            if found >= given + CLEARLY and found > best:
                scale = f"--image-size {size} " if size != data.input_shape[1] else ""
                best, after, options = found, right, f"{scale}--mean {numbers(mean)} --std {numbers(std)}"
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    sure = gained - lost > SURE * math.sqrt(gained + lost)
    return Tried(tried=tried, images=count, given=given, best=best, options=options, beyond_chance=sure)


def _pixels(data: Dataset, index: torch.Tensor, x: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    """(size, pixels 0 to 1 [N, C, size, size]): small sizes, which cost little, the given one, and other usual ones.

    None but the given one enlarges the images.
    """
    mean, std = (data.preprocessing.get(what) for what in ("mean", "std"))
    pixels = x * _shaped(std or (1.0,)) + _shaped(mean or (0.0,))
    if not (pixels.min() > -1e-3 and pixels.max() < 1 + 1e-3):
        return
    split: Split = data.test
    channels, given, _ = data.input_shape
    if not isinstance(split, ImageSplit):
        yield given, pixels
        return
    sizes = measured([file for file, _ in split.files])
    shorter = sizes.shorter or 0
    own = (shorter,) if 0 < shorter <= max(SIZES) else ()
    for size in dict.fromkeys((*SMALL_SIZES, given, *own, *SIZES)):
        if size == given:
            yield given, pixels
        elif size <= shorter:
            resize = chosen(sizes, size, None)[1]
            raw = replace(split, crop=size, resize=resize, mean=(0.0,) * channels, std=(1.0,) * channels)
            yield size, raw.fetch(index)[0]


def _normalizations(data: Dataset, pixels: torch.Tensor) -> Iterator[tuple[tuple[float, ...], tuple[float, ...]]]:
    """The given one, usual ones, and that of the images themselves."""
    how, channels = data.preprocessing, pixels.shape[1]
    if how.get("mean") and how.get("std"):
        yield tuple(how["mean"]), tuple(how["std"])
    yield from NORMALIZATIONS.get(channels, ())
    own_std = [round(max(float(value), 1e-3), 4) for value in pixels.std((0, 2, 3))]
    yield tuple(round(float(value), 4) for value in pixels.mean((0, 2, 3))), tuple(own_std)


def _shaped(values: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(values)[:, None, None]


def _right(model: nn.Module, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor | None:
    """Which images get their class; None where the network takes no such images."""
    try:
        logits = predict(model, torch.split(x, 50))
    except (RuntimeError, ValueError, TypeError):
        return None
    return logits.argmax(1) == target


def _share(right: torch.Tensor) -> float:
    return float(right.float().mean())
