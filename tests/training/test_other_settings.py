"""training.other_settings: the size and the normalization that a network was trained with are found again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from lsq_export.data import Dataset, TensorSplit, load
from lsq_export.training.other_settings import try_others


class Exact(nn.Module):
    """Right only on images of `size` pixels whose values are those of pixels less `mean`, divided by `std`."""

    def __init__(self, size: int, mean: float, std: float) -> None:
        super().__init__()
        self.size, self.mean, self.std = size, mean, std
        self.seen: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x.shape[-1])
        level = (x * self.std + self.mean).mean((1, 2, 3)) * 255  # 60 for class 0 and 70 for class 1, if all is right
        near = (level - 65).abs() < 6
        right = torch.stack([65 - level, level - 65], 1)
        return right if self.size == x.shape[-1] and bool(near.all()) else torch.tensor([1.0, 0.0]).expand(len(x), 2)


class OneSize(Exact):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[-1] != self.size:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
        return super().forward(x)


@pytest.fixture
def spec(tmp_path: Path) -> str:
    """Twenty images of 36×36 in each of two classes, one a little brighter than the other."""
    for name, level in (("a", 60), ("b", 70)):
        (tmp_path / name).mkdir()
        for i in range(20):
            Image.fromarray(np.full((36, 36, 3), level, np.uint8)).save(tmp_path / name / f"{i}.png")
    return f"imagefolder:{tmp_path}"


@pytest.mark.parametrize("kind", [Exact, OneSize])
def test_what_was_forgotten_is_found(kind: type[Exact], spec: str) -> None:
    network, data = kind(32, 0.5, 0.5), load(spec, image_size=64)
    tried = try_others(network, data)
    assert tried.options == "--image-size 32 --mean 0.5 --std 0.5"
    assert (tried.images, tried.given, tried.best) == (8, 0.5 if kind is Exact else 0.0, 1.0)
    assert tried.beyond_chance is False  # 8 images are few, and the best of many settings was taken
    assert set(network.seen) <= {28, 32, 36, 64}  # nothing is enlarged that was not
    half = {"mean": [0.5], "std": [0.5]}
    assert try_others(network, load(spec, image_size=28, **half)).options.startswith("--image-size 32 --mean 0.5")
    assert try_others(network, load(spec, image_size=32)).options == "--mean 0.5 --std 0.5"
    assert try_others(network, load(spec, image_size=32, **half)).options == ""  # right as it is


def test_chance_is_told_from_better(spec: str) -> None:
    few = load(spec, image_size=32)
    split = TensorSplit(*few.test.fetch(torch.arange(len(few.test)).repeat(8)))
    data = Dataset("many", split, split, 2, (3, 32, 32), few.preprocessing)
    assert try_others(Exact(32, 0.5, 0.5), data).beyond_chance
    assert not try_others(Exact(7, 0.5, 0.5), data).beyond_chance


def test_no_setting_helps_and_time_is_bounded(spec: str) -> None:
    network, data = Exact(7, 0.5, 0.5), load(spec, image_size=32)
    tried = try_others(network, data)
    assert tried.options == "" and tried.given == tried.best == 0.5 and tried.tried > 10
    assert try_others(network, data, seconds=-1).tried == 1


def test_values_that_are_no_pixels_are_left_alone() -> None:
    split = TensorSplit(torch.full((4, 1, 8, 8), 300.0), torch.arange(4) % 2)
    data = Dataset("own", split, split, 2, (1, 8, 8), {})
    assert try_others(Exact(8, 0.5, 0.5), data).tried == 1
