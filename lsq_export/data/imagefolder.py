"""`imagefolder:DIR`: a directory with one folder of images for each class.

That is DIR/train/CLASS/*.png with DIR/val or DIR/test beside it, or DIR/CLASS/*.png, which is split 80:20 in each
class. Files are read when a batch is made, so data sets larger than memory work. Class numbers follow the sorted names
of the train split's folders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from calib.errors import QuantizationError
from calib.words import counted

from .dataset import Dataset, Source
from .image_files import opened
from .image_sizes import IMAGE_SIZE, STRETCH, chosen, measured
from .normalization import per_channel
from .sample import Sample
from .specs import no_directory
from .splitting import DRAWN, stratified_split

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet, RGB in 0 … 1
GRAY_MEAN, GRAY_STD = 0.449, 0.226  # their averages
SAMPLE_PIXELS = 1024  # of a sample's longer side, at most


@dataclass(frozen=True, repr=False)
class ImageSplit:
    """Image files and their classes, read on demand.

    The shorter side is resized to `resize` (bilinear) and the center cropped to `crop`, or both sides are stretched to
    `crop` pixels ("stretch"). The result, 0 … 1, is normalized by `mean` and `std`, of one or three channels.
    """

    files: tuple[tuple[Path, int], ...]
    resize: int | str
    crop: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.files)

    def __repr__(self) -> str:
        sizes = f"{counted(len(self), 'file')}, {counted(len(self.mean), 'channel')}"
        return f"ImageSplit({sizes}, resize {self.resize}, crop {self.crop})"

    def fetch(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        chosen = [self.files[i] for i in index.tolist()]
        x = torch.stack([self._prepared(self._image(path)) for path, _ in chosen])  # [N, C, crop, crop]
        return x, torch.tensor([label for _, label in chosen])

    def sample(self, index: int) -> Sample:
        """The pixels of one image, made smaller where it is large, before and after preprocessing."""
        path, label = self.files[index]
        pixels = self._image(path)
        pixels.thumbnail((SAMPLE_PIXELS, SAMPLE_PIXELS))
        return Sample(np.asarray(pixels), self._prepared(pixels), label)

    def _image(self, path: Path) -> Image.Image:
        """Gray or RGB pixels of a file."""
        with opened(path) as image:
            if image.mode.startswith(("I", "F")):
                raise QuantizationError(
                    f"image {path} has more than 8 bits a channel (mode {image.mode}): convert it to 8 bits"
                )
            pixels: Image.Image = image.convert("L" if len(self.mean) == 1 else "RGB")
            return pixels

    def _prepared(self, pixels: Image.Image) -> torch.Tensor:
        """Pixels -> float32 [C, crop, crop]."""
        from PIL import Image

        width, height = self.crop, self.crop
        if not isinstance(self.resize, str):
            shorter, factor = self.resize, self.resize / min(pixels.size)
            width, height = (max(shorter, round(side * factor)) for side in pixels.size)
        left, top = (width - self.crop) // 2, (height - self.crop) // 2
        pixels = pixels.resize((width, height), Image.Resampling.BILINEAR)
        pixels = pixels.crop((left, top, left + self.crop, top + self.crop))
        values = np.asarray(pixels, dtype=np.float32).reshape(self.crop, self.crop, len(self.mean))  # [H, W, C]
        values = values / np.float32(255)
        values = (values - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))


def load_imagefolder(
    directory: Path,
    image_size: int | None = None,
    channels: int = 3,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    resize: int | str | None = None,
) -> Dataset:
    """The data set of a directory of images. mean, std: by default ImageNet's. image_size, resize: see `image_sizes`.

    Errors (QuantizationError): pillow is missing, no such directory, a layout that is not understood, a class without
    images, an unknown class in the test split, a resize that cannot be. An image that cannot be read is named when it
    is its turn.
    """
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise QuantizationError("data 'imagefolder' needs pillow: pip install pillow") from error
    if not directory.is_dir():
        raise no_directory(directory)
    train, test, classes = _files(directory)
    sizes = measured([file for file, _ in train])
    size, resize = chosen(sizes, image_size, resize)
    means = per_channel("mean", mean, channels) or (MEAN if channels == 3 else (GRAY_MEAN,))
    stds = per_channel("std", std, channels) or (STD if channels == 3 else (GRAY_STD,))
    stretched = resize == STRETCH
    return Dataset(
        name=f"imagefolder:{directory}",
        train=ImageSplit(tuple(train), resize, size, means, stds),
        test=ImageSplit(tuple(test), resize, size, means, stds),
        num_classes=len(classes),
        input_shape=(channels, size, size),
        preprocessing={
            "data": "imagefolder",
            "resize": [size, size] if stretched else resize,
            "interpolation": "bilinear",
            "crop": None if stretched else size,
            "divide_by": 255.0,
            "mean": list(means),
            "std": list(stds),
            "classes": classes,
        },
        classes=tuple(classes),
        source=Source(
            sizes=str(sizes),
            split="" if _folders(directory / "train") else DRAWN,
            note="" if image_size or size == IMAGE_SIZE else f"no --image-size: not {IMAGE_SIZE}, they are small",
        ),
    )


def _files(directory: Path) -> tuple[list[tuple[Path, int]], list[tuple[Path, int]], list[str]]:
    """(file, class number) of the train and the test split, and the names of the classes."""
    if not _folders(directory / "train"):
        classes = _classes(directory)
        files = _labeled(directory, classes)
        train, test = stratified_split(np.array([label for _, label in files]), str(directory))
        return [files[i] for i in train], [files[i] for i in test], classes
    held_out = next((directory / name for name in ("val", "test") if (directory / name).is_dir()), None)
    if held_out is None:
        raise QuantizationError(
            f"{directory} has train/ but neither val/ nor test/: add one, or give {directory / 'train'} to have it "
            "split"
        )
    classes = _classes(directory / "train")
    unknown = sorted(set(_folders(held_out)) - set(classes))
    if unknown:
        raise QuantizationError(
            f"class {unknown[0]!r} of {held_out} is not in {directory / 'train'}: the splits need the same classes"
        )
    return _labeled(directory / "train", classes), _labeled(held_out, _folders(held_out), classes), classes


def _classes(directory: Path) -> list[str]:
    classes = _folders(directory)
    if len(classes) < 2:
        raise QuantizationError(
            f"{directory} has {counted(len(classes), 'class folder')}: two or more are needed, each with its images"
        )
    return classes


def _folders(directory: Path) -> list[str]:
    if not directory.is_dir():
        return []
    return sorted(entry.name for entry in directory.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _labeled(directory: Path, folders: list[str], classes: list[str] | None = None) -> list[tuple[Path, int]]:
    """(file, class number) of the images in these folders. classes: numbers follow them instead of the folders."""
    images = []
    for folder in folders:
        files = sorted(
            f for f in (directory / folder).iterdir() if f.suffix.lower() in SUFFIXES and not f.name.startswith(".")
        )
        if not files:
            raise QuantizationError(
                f"{directory / folder} holds no images ({', '.join(s[1:] for s in SUFFIXES)}): add some or remove the "
                "folder"
            )
        images += [(file, (classes or folders).index(folder)) for file in files]
    if not images:
        raise QuantizationError(f"{directory} has no class folders with images")
    return images
