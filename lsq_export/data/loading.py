"""Data sets: `digits` (shipped with scikit-learn), `imagefolder:DIR` and `npz:FILE`.

    data = load("digits")
    for x, y in data.batches("train", 64, shuffle=0, augment=True):      # x float32 [N, C, H, W], y int64 [N]
        ...

Where a source has no split of its own, the test split is 20 % of each class, drawn with a fixed seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from calib.errors import QuantizationError

from .dataset import Dataset
from .digits import digits
from .specs import unknown


def load(
    spec: str,
    *,
    image_size: int | None = None,
    channels: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    resize: int | None = None,
) -> Dataset:
    """The data set that `spec` names: `digits`, `imagefolder:DIR` or `npz:FILE`.

    image_size: height and width, by default 32 for digits and 224 for imagefolder, or the size of the images there
    where they are less than half as large. resize: for imagefolder, the pixels to which an image's shorter side is
    scaled, before the center is cropped to image_size: by default image_size below 112 pixels, else image_size / 0.875,
    as 256 for 224. channels: 1 or 3, by default 3.
    The images of an npz file stay as they are: there the two are only checked.
    mean, std: what is subtracted from pixels of 0 to 1, and what they are divided by then, one number or one for each
    channel. By default ImageNet's for imagefolder, those of the images for digits, and none for npz, whose float images
    are taken as they are.

    Errors (QuantizationError): an unknown spec, and everything in the files that cannot be used, with its place.
    """
    kind, _, argument = spec.partition(":")
    if channels not in (None, 1, 3):
        raise QuantizationError(f"channels is {channels}: use 1 (gray) or 3 (RGB)")
    if image_size is not None and image_size < 1:
        raise QuantizationError(f"image size is {image_size}: use 1 or more pixels")
    if resize is not None and kind != "imagefolder":
        raise QuantizationError(f"resize is for imagefolder, not for data {spec!r}: leave it out")
    if spec == "digits":
        return digits(image_size or 32, channels or 3, mean, std)
    if kind == "imagefolder" and argument:
        from .imagefolder import load_imagefolder

        return load_imagefolder(Path(argument), image_size, channels or 3, mean, std, resize)
    if kind == "npz" and argument:
        from .npz import load_npz

        return load_npz(Path(argument), image_size, channels, mean, std)
    raise unknown(spec)
