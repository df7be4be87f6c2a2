"""data.image_sizes: what becomes of images where nobody says it, and `run.py` does the same as the training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calib.errors import QuantizationError
from lsq_export.bundle.run import preprocess
from lsq_export.cli.data_options import load_data
from lsq_export.data import Dataset, load
from lsq_export.data.image_sizes import ImageSizes, chosen


def folder(directory: Path, *sizes: tuple[int, int]) -> str:
    """Images of these sizes, (width, height), in each of two classes."""
    for name in ("a", "b"):
        (directory / name).mkdir(parents=True)
        for i, (width, height) in enumerate(sizes * 2):
            pixels = np.random.default_rng(i).integers(0, 256, (height, width, 3), np.uint8)
            Image.fromarray(pixels).save(directory / name / f"{i}.png")
    return f"imagefolder:{directory}"


@pytest.mark.parametrize(
    ("shorter", "asked", "expected"),
    [
        (375, (None, None), (224, 256)),  # torchvision's evaluation
        (256, (None, None), (224, 256)),
        (250, (None, None), (224, 224)),  # not enlarged to be cut
        (224, (None, None), (224, 224)),
        (36, (None, None), (36, 36)),  # not 224
        (36, (32, None), (32, 32)),  # not 37, which would enlarge them
        (36, (16, None), (16, 16)),
        (375, (32, None), (32, 32)),
        (36, (224, None), (224, 256)),  # somebody asks for it
        (160, (None, None), (224, 256)),
        (111, (None, None), (111, 111)),
        (375, (None, 224), (224, 224)),
        (375, (112, None), (112, 128)),
        (375, (None, 96), (96, 96)),
        (36, (32, 36), (32, 36)),
        (36, (32, "stretch"), (32, "stretch")),
        (36, (None, "stretch"), (36, "stretch")),
        (None, (None, None), (224, 256)),  # no image can be read, which is said later
    ],
)
def test_sizes_that_nobody_asked_for(
    shorter: int | None, asked: tuple[int | None, int | str | None], expected: tuple[int, int | str]
) -> None:
    sizes = ImageSizes(() if shorter is None else ((shorter + 10, shorter),))
    assert chosen(sizes, *asked) == expected


@pytest.mark.parametrize(
    ("asked", "says"),
    [((32, 30), "is 30, which leaves no 32 pixels"), ((32, "squash"), "is 'squash': use pixels"), ((8, True), "True")],
)
def test_a_resize_that_cannot_be(asked: tuple[int, int | str], says: str) -> None:
    with pytest.raises(QuantizationError, match=says):
        chosen(ImageSizes(((36, 36),)), *asked)


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"image_size": 8, "resize": "stretch"}, ([8, 8], None)),
        ({"image_size": 8, "resize": 8}, (8, 8)),
        ({"image_size": 8, "resize": 10}, (10, 8)),
        ({"image_size": 112}, (128, 112)),
        ({}, (18, 18)),
    ],
)
def test_those_who_receive_the_network_do_the_same(
    options: dict[str, object], steps: tuple[object, object], tmp_path: Path
) -> None:
    """`run.py` on the file, and commands with the preprocessing of a checkpoint, give the very same pixels."""
    spec = folder(tmp_path / "d", (24, 18))
    data = load(spec, **options)  # type: ignore[arg-type]
    how = data.preprocessing
    assert (how["resize"], how["crop"]) == steps
    sample = data.sample()
    assert sample is not None
    expected = np.asarray(sample.x)
    assert np.abs(preprocess(sample.source, how, data.input_shape) - expected).max() < 1e-6
    again = load_data(spec, data.input_shape, option="--data", like=how)
    assert again.preprocessing == how and np.array_equal(first(again), first(data))


def first(data: Dataset) -> np.ndarray:
    return next(iter(data.batches("test", 2)))[0].numpy()


def test_stretching_keeps_the_borders_and_cutting_does_not(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        pixels = np.zeros((16, 32, 3), np.uint8)
        pixels[:, :4] = 255  # a bright border on the left
        for i in range(2):
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    cut, stretched = (first(load(f"imagefolder:{tmp_path}", image_size=8, resize=resize)) for resize in (8, "stretch"))
    assert cut[0, 0, :, 0].max() < 0 < stretched[0, 0, :, 0].min()


def test_resize_is_for_images_in_folders(tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match=r"resize \(--resize\) is 9, and digits has no images to cut"):
        load("digits", resize=9)
