"""How large image files are, and the sizes that follow where nobody asks for others.

| asked for | what is taken |
|---|---|
| no image size | 224; that of the images where they are below 112 pixels, or `resize` where that is less |
| no resize     | 8/7 of the image size, as torchvision's 256 for 224 |
| the same, image size below 112, or images that have it but not 8/7 of it | the image size |

So images are cut as in the usual evaluation of ImageNet; small ones, and those that have the size already, are not
enlarged to be cut.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from calib.errors import QuantizationError

from .image_files import opened

LOOKED_AT = 100  # files
IMAGE_SIZE, SMALL = 224, 112
CROP_RATIO = 0.875  # how much of the shorter side the crop keeps, as 224 of 256
STRETCH = "stretch"


@dataclass(frozen=True)
class ImageSizes:
    """(width, height) in pixels of some files; empty where none of them could be read."""

    sizes: tuple[tuple[int, int], ...]

    @property
    def shorter(self) -> int | None:
        """The shorter side of the usual image: the median."""
        return statistics.median_low(min(size) for size in self.sizes) if self.sizes else None

    def __str__(self) -> str:
        """Such as 36×36, or 300×200 to 640×480 (width × height)."""
        if not self.sizes:
            return ""
        ordered = sorted(set(self.sizes), key=lambda size: (size[0] * size[1], size))
        texts = [f"{width}×{height}" for width, height in (ordered[0], ordered[-1])]
        return texts[0] if len(ordered) == 1 else " to ".join(texts)


def measured(files: Sequence[Path]) -> ImageSizes:
    """The sizes of LOOKED_AT files at most, evenly from all. Only their heads are read; damaged ones are left out."""
    count, sizes = min(len(files), LOOKED_AT), []
    for index in range(count):
        with suppress(QuantizationError), opened(files[index * len(files) // count]) as image:  # named at its turn
            sizes.append(image.size)
    return ImageSizes(tuple(sizes))


def chosen(sizes: ImageSizes, image_size: int | None, resize: int | str | None) -> tuple[int, int | str]:
    """(image size, resize), with defaults in the place of None.

    resize: pixels of the shorter side, of which the center is taken; or "stretch", both sides to the image size.
    Errors (QuantizationError): a resize that is neither, or less than the image size.
    """
    if isinstance(resize, bool) or not (resize is None or resize == STRETCH or isinstance(resize, int)):
        raise QuantizationError(f"resize (--resize) is {resize!r}: use pixels of the shorter side, or {STRETCH}")
    pixels = resize if isinstance(resize, int) else None
    if pixels is not None and pixels < (image_size or 1):
        raise QuantizationError(
            f"resize (--resize) is {pixels}, which leaves no {image_size or 1} pixels (--image-size) to take: use "
            f"{image_size or 1} or more, or {STRETCH}"
        )
    shorter = sizes.shorter or IMAGE_SIZE
    size = image_size or min(shorter if shorter < SMALL else IMAGE_SIZE, pixels or IMAGE_SIZE)
    if resize is not None:
        return size, resize
    usual = round(size / CROP_RATIO)
    return size, size if size < SMALL or size <= (sizes.shorter or 0) < usual else usual
