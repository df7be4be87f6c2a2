"""How digits are made hard. The numbers alone: `data` makes the images, and needs torch."""

from __future__ import annotations

from dataclasses import dataclass

CLASSES = 10


@dataclass(frozen=True)
class HardDigits:
    """How digits are made hard; the same images in every run.

    train_per_class   images of each class, drawn from the 1438 of the train split
    noise             σ of Gaussian noise on each pixel of images in 0 … 1, which are then clipped to 0 … 1
    shift             pixels that an image is moved by at most, both ways
    test_copies       copies of each of the 359 test images, each with a noise and a shift of its own, so that accuracy
                      is not counted in steps of 1/359
    """

    image_size: int = 16
    train_per_class: int = 120
    noise: float = 0.2
    shift: int = 2
    test_copies: int = 4
