"""data.normalization: mean and std of every data set, by default and as they are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from calib.errors import QuantizationError, QuantizationWarning
from lsq_export.data.dataset import Dataset
from lsq_export.data.loading import load
from lsq_export.data.normalization import per_channel

MEAN, STD = (0.5, 0.25, 0.125), (0.5, 0.25, 1.0)


def _folder(directory: Path) -> str:
    for name in ("a", "b"):
        (directory / name).mkdir()
        pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        for i in range(2):
            Image.fromarray(pixels).save(directory / name / f"{i}.png")
    return f"imagefolder:{directory}"


def _npz(directory: Path, kind: Any = np.uint8) -> str:
    x = np.random.default_rng(0).integers(0, 256, (8, 3, 8, 8)).astype(kind)
    np.savez(directory / "d.npz", x=x, y=np.arange(8) % 2)
    return f"npz:{directory / 'd.npz'}"


def _images(data: Dataset) -> torch.Tensor:
    return next(iter(data.batches("test", 4)))[0]


@pytest.mark.parametrize("kind", ["digits", "imagefolder", "npz"])
def test_given_values_take_the_place_of_the_defaults(kind: str, tmp_path: Path) -> None:
    spec = {"digits": lambda _: "digits", "imagefolder": _folder, "npz": _npz}[kind](tmp_path)
    pixels = _images(load(spec, image_size=8, mean=[0.0], std=[1.0]))
    assert pixels.min() >= 0 and pixels.max() <= 1
    data = load(spec, image_size=8, mean=MEAN, std=STD)
    assert (data.preprocessing["mean"], data.preprocessing["std"]) == (list(MEAN), list(STD))
    expected = (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    assert torch.allclose(_images(data), expected, rtol=0, atol=1e-6)
    again = load(spec, image_size=8, mean=data.preprocessing["mean"], std=data.preprocessing["std"])
    assert torch.equal(_images(again), _images(data))


def test_what_a_data_set_says_of_itself_gives_the_same_images(tmp_path: Path) -> None:
    for spec in ("digits", _folder(tmp_path), _npz(tmp_path), _npz(tmp_path, np.float32)):
        data = load(spec, image_size=8)
        again = load(spec, image_size=8, mean=data.preprocessing["mean"], std=data.preprocessing["std"])
        assert torch.equal(_images(again), _images(data)) and again.preprocessing == data.preprocessing


def test_float_images_have_units_of_their_own(tmp_path: Path) -> None:
    with pytest.warns(QuantizationWarning, match=r"mean \(--mean\) is given without std \(--std\), which stays"):
        data = load(_npz(tmp_path, np.float32), mean=[128.0])
    assert (data.preprocessing["mean"], data.preprocessing["std"]) == ([128.0] * 3, [1.0] * 3)
    assert _images(data).min() < 0


@pytest.mark.parametrize(
    ("what", "values", "says"),
    [
        ("mean", [0.1, 0.2], "mean (--mean) has 2 values and the images have 3 channels"),
        ("mean", [], "mean (--mean) has 0 values"),
        ("mean", [float("nan")], "use finite numbers"),
        ("std", [0.2, 0.0, 0.2], "std (--std) is 0.0: use positive numbers"),
        ("std", [1e-45], "std (--std) is 1e-45: use 1e-09 to 1e+09"),
        ("std", [58.395], "std (--std) is 58.395, and pixels are 0 to 1 here: divide it by 255"),
    ],
)
def test_values_that_cannot_be_meant(what: str, values: list[float], says: str) -> None:
    with pytest.raises(QuantizationError) as caught:
        per_channel(what, values, 3)
    assert says in str(caught.value)
