"""Mean and standard deviation of the images that a network was trained on, one for each channel."""

from __future__ import annotations

import math
from collections.abc import Sequence

from calib.errors import QuantizationError
from calib.words import counted

LARGEST = 1e9  # of a mean or std, and of what dividing by an std multiplies with: far from the bounds of float32


def per_channel(
    what: str, values: Sequence[float] | None, channels: int, pixels: bool = True
) -> tuple[float, ...] | None:
    """One value for each channel; None stays None.

    what: "mean" or "std". pixels: of images with values from 0 to 1.

    Errors (QuantizationError): neither one value nor one for each channel, NaN, infinity, an std that is not positive,
    a value beyond those of the pixels, one so small or large that float32 would overflow.
    """
    if values is None:
        return None
    numbers = tuple(float(value) for value in values)
    if len(numbers) not in (1, channels):
        raise QuantizationError(
            f"{what} (--{what}) has {counted(len(numbers), 'value')} and the images have "
            f"{counted(channels, 'channel')}: give one value, or "
            "one for each channel"
        )
    wrong = [n for n in numbers if not math.isfinite(n) or (what == "std" and n <= 0)]
    if wrong:
        kind = "positive numbers" if what == "std" else "finite numbers"
        raise QuantizationError(f"{what} (--{what}) is {wrong[0]}: use {kind}")
    large = [n for n in numbers if pixels and abs(n) > 1]
    if large:
        raise QuantizationError(f"{what} (--{what}) is {large[0]}, and pixels are 0 to 1 here: divide it by 255")
    extreme = [n for n in numbers if abs(n) > LARGEST or (what == "std" and n < 1 / LARGEST)]
    if extreme:
        least = f"{1 / LARGEST:g}" if what == "std" else f"-{LARGEST:g}"
        raise QuantizationError(f"{what} (--{what}) is {extreme[0]}: use {least} to {LARGEST:g}")
    return numbers if len(numbers) == channels else numbers * channels
