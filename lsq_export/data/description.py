"""What a network gets to see of data, in a line: sizes, normalization, splits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from calib.samples import in_words

from .dataset import Dataset
from .imagefolder import MEAN, STD


def describe(data: Dataset) -> str:
    """Such as: images 36×36 → 32×32 (shorter side to 32); mean 0.5, std 0.5; 1,438 train / 359 test (…)."""
    split = f" ({data.source.split})" if data.source.split else ""
    counts = f"{len(data.train):,} train / {len(data.test):,} test{split}"
    return f"{sizes(data)}; {normalization(data)}; {counts}"


def sizes(data: Dataset) -> str:
    """Of the images, of what becomes of them, and how."""
    if not data.of_images:
        return f"inputs {in_words(data.input_shape)} as they are"
    how, (_, height, width) = data.preprocessing, data.input_shape
    resize, crop = how.get("resize"), how.get("crop")
    steps = [data.source.note] if data.source.note else []
    same = data.source.sizes == f"{width}×{height}" and crop in (resize, None)
    if same or (resize is None and crop is None):
        return "; ".join((f"images {width}×{height} as they are", *steps))
    if isinstance(resize, int):
        side = f"shorter side to {resize}"
        square = re.fullmatch(r"(\d+)×\1", data.source.sizes) and crop == resize
        steps.insert(0, side if square else f"{side}, center")
    elif resize is not None:
        steps.insert(0, "stretched")
    start = f"images {data.source.sizes} → " if data.source.sizes else "images → "
    return f"{start}{width}×{height}" + (f" ({'; '.join(steps)})" if steps else "")


def normalization(data: Dataset) -> str:
    """Mean and std, as the options take them."""
    mean, std = data.preprocessing.get("mean"), data.preprocessing.get("std")
    if not mean and not std:
        return "no mean and std"
    known = " (ImageNet's)" if (mean, std) == (list(MEAN), list(STD)) else ""
    return f"mean {numbers(mean)}, std {numbers(std)}{known}"


def numbers(values: Sequence[float] | Any) -> str:
    """0.5 for three that are equal, else 0.485,0.456,0.406."""
    if not values:
        return "none"
    return ",".join(f"{value:g}" for value in (values[:1] if len(set(values)) == 1 else values))
