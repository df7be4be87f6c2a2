"""data.imagefolder: resizing and cropping, splits, and every way in which a directory can be unusable."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from calib.errors import QuantizationError
from lsq_export.data.loading import load
from support.unusable import assert_unusable


def _images(directory: Path, count: int = 5, size: tuple[int, int] = (40, 30), mode: str = "RGB") -> None:
    directory.mkdir(parents=True)
    rng = np.random.default_rng(2)
    for i in range(count):
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).convert(mode).save(
            directory / f"{i}.png"
        )


def test_imagefolder_with_its_own_split(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("val", 2)):
        _images(tmp_path / split / "cat", count)
        _images(tmp_path / split / "dog", count, mode="L")
    data = load(f"imagefolder:{tmp_path}", image_size=16)
    assert (data.num_classes, data.input_shape, len(data.train), len(data.test)) == (2, (3, 16, 16), 6, 4)
    assert json.loads(json.dumps(data.preprocessing))["classes"] == ["cat", "dog"]
    x, y = next(iter(data.batches("test", 4)))
    assert x.shape == (4, 3, 16, 16) and y.tolist() == [0, 0, 1, 1]
    x, _ = next(iter(load(f"imagefolder:{tmp_path}", image_size=16, channels=1).batches("test", 4)))
    assert x.shape == (4, 1, 16, 16)


def test_imagefolder_normalizes_and_crops_the_center(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        pixels = np.zeros((32, 64, 3), np.uint8)
        pixels[:, 20:44] = (255, 128, 0)
        for i in range(2):
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    # 32 -> 16 high, then 14 x 14 of 32 x 16.
    x, _ = next(iter(load(f"imagefolder:{tmp_path}", image_size=14, resize=16).batches("train")))
    wanted = (np.array([1, 128 / 255, 0]) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    # Columns 10 … 21 of the resized image are inside the bar, edges aside.
    assert np.abs(x[0, :, 7, 2:12].numpy().T - wanted).max() < 1e-5


def test_small_images_keep_their_size_and_are_not_cropped(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _images(tmp_path / name, 5)
    spec = f"imagefolder:{tmp_path}"
    with Image.open(next((tmp_path / "a").iterdir())) as image:
        side = min(image.size)
    found = {size: load(spec, image_size=size).preprocessing for size in (None, 32, 111, 112, 224)}
    assert found[None]["resize"] == found[None]["crop"] == side < 112
    assert {size: how["resize"] for size, how in found.items() if size} == {32: 32, 111: 111, 112: 128, 224: 256}
    assert load(spec, image_size=32, resize=40).preprocessing["resize"] == 40
    with pytest.raises(QuantizationError, match="resize \\(--resize\\) is 31, which leaves no 32 pixels"):
        load(spec, image_size=32, resize=31)
    with pytest.raises(QuantizationError, match="it is for imagefolder"):
        load("digits", resize=32)
    large = Image.fromarray(np.zeros((300, 400, 3), np.uint8))
    for path in (tmp_path / "a").iterdir():
        large.save(path)
    for path in (tmp_path / "b").iterdir():
        large.save(path)
    assert load(spec).input_shape == (3, 224, 224)


def test_imagefolder_of_one_level_is_split(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _images(tmp_path / name, 5)
    data = load(f"imagefolder:{tmp_path}", image_size=16)
    assert (len(data.train), len(data.test)) == (8, 2)
    assert torch.cat([y for _, y in data.batches("test")]).tolist() == [0, 1]


def test_bad_imagefolders(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_unusable(f"imagefolder:{tmp_path / 'empty'}", "has 0 class folders")
    (tmp_path / "no_images" / "a").mkdir(parents=True)
    _images(tmp_path / "no_images" / "b")
    assert_unusable(f"imagefolder:{tmp_path / 'no_images'}", "no_images/a holds no images")
    _images(tmp_path / "half" / "train" / "a")
    assert_unusable(f"imagefolder:{tmp_path / 'half'}", "has train/ but neither val/ nor test/")
    _images(tmp_path / "half" / "train" / "b")
    _images(tmp_path / "half" / "test" / "c")
    assert_unusable(f"imagefolder:{tmp_path / 'half'}", "class 'c' of .*half/test is not in")
    for name in ("a", "b"):
        _images(tmp_path / "single" / name, 1)
    assert_unusable(f"imagefolder:{tmp_path / 'single'}", "no class has two samples")


@pytest.mark.parametrize(
    "content,message", [(b"no image", "cannot be read"), (None, "cannot be read"), (b"", "cannot be read")]
)
def test_unreadable_image_is_named(content: bytes | None, message: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        _images(tmp_path / name)
    bad = tmp_path / "b" / "3.png"
    bad.write_bytes(bad.read_bytes()[:300] if content is None else content)
    assert_unusable(f"imagefolder:{tmp_path}", f"image .*b/3.png {message}")


def test_image_of_16_bits_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _images(tmp_path / name)
    Image.fromarray(np.full((30, 30), 40_000, np.uint16)).save(tmp_path / "a" / "0.png")
    assert_unusable(f"imagefolder:{tmp_path}", "a/0.png has more than 8 bits a channel")
