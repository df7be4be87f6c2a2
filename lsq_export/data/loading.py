"""Data sets: `digits` (shipped with scikit-learn), `imagefolder:DIR`, `npz:FILE`, and inputs as a network takes them:
`npy:DIR`, `testset:DIR` and `package.module:function`.

    data = load("digits")
    for x, y in data.batches("train", 64, shuffle=0, augment=True):      # x float32 [N, C, H, W], y int64 [N]
        ...

Where a source has no split of its own, the test split is 20 % of each class, drawn with a fixed seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calib.errors import QuantizationError, warn

from .array_rows import Wanted
from .dataset import Dataset
from .digits import digits
from .specs import IMAGES, LARGEST_SIDE, check_spec, unknown


def load(
    spec: str,
    *,
    image_size: int | None = None,
    channels: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    resize: int | str | None = None,
    shape: Any = None,
) -> Dataset:
    """The data set that `spec` names: `digits`, `imagefolder:DIR`, `npz:FILE`, `npy:DIR` (a sample in each .npy file),
    `testset:DIR` (test_data_set_* of an ONNX file) or `package.module:function` (it gives batches).

    image_size: height and width, by default 32 for digits and 224 for imagefolder, or that of its images where they are
    less than half as large. channels: 1 or 3, by default 3. The images of an npz file stay as they are: there the two
    are only checked.
    resize: of imagefolder: the pixels that the shorter side is scaled to before the center is cut out, or "stretch" to
    scale both sides to image_size. By default 8/7 of image_size, as 256 for 224; image_size below 112 pixels, and where
    the images have that size but not 8/7 of it.
    mean, std: what is subtracted from pixels of 0 to 1, and what they are divided by then, one number or one for each
    channel. By default ImageNet's for imagefolder, those of the images for digits, and none for npz, whose float images
    are taken as they are.
    shape: what the network takes, without the batch ({name: shape} of several inputs, None for open sizes), which tells
    samples from batches of them. Only npy, testset and functions ask for it, and take no option for images.

    A QuantizationWarning says so where only one of mean and std is given: the other one keeps its default.

    Errors (QuantizationError): an unknown spec, and everything in the files that cannot be used, with its place.
    """
    kind = spec.partition(":")[0]
    if channels not in (None, 1, 3):
        raise QuantizationError(f"channels is {channels}: use 1 (gray) or 3 (RGB)")
    if image_size is not None and not 1 <= image_size <= LARGEST_SIDE:
        raise QuantizationError(f"image size is {image_size}: use 1 to {LARGEST_SIDE:,} pixels")
    if isinstance(resize, int) and resize > LARGEST_SIDE:
        raise QuantizationError(f"resize (--resize) is {resize}: use {LARGEST_SIDE:,} pixels or less")
    if resize is not None and kind != "imagefolder":
        raise QuantizationError(
            f"resize (--resize) is {resize}, and {kind} has no images to cut: leave it out, it is for imagefolder"
        )
    if kind not in (*IMAGES, "npz"):
        return _as_it_is(spec, Wanted(shape), (image_size, channels, mean, std))
    data = _loaded(spec, image_size, channels, mean, std, resize)
    if (mean is None) != (std is None):
        one, other = ("mean", "std") if std is None else ("std", "mean")
        warn(
            f"{one} (--{one}) is given without {other} (--{other}), which stays {data.preprocessing[other]}: "
            "a network is trained with both, give both",
        )
    return data


def _loaded(
    spec: str,
    image_size: int | None,
    channels: int | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    resize: int | str | None,
) -> Dataset:
    kind, _, argument = spec.partition(":")
    if spec == "digits":
        return digits(image_size or 32, channels or 3, mean, std)
    if kind == "imagefolder" and argument:
        from .imagefolder import load_imagefolder

        return load_imagefolder(Path(argument), image_size, channels or 3, mean, std, resize)
    if kind == "npz" and argument:
        from .npz import load_npz

        return load_npz(Path(argument), image_size, channels, mean, std)
    raise unknown(spec)


def _as_it_is(spec: str, wanted: Wanted, options: tuple[object, ...]) -> Dataset:
    """Inputs as the network takes them. Errors (QuantizationError): options for images, and as `load`."""
    kind, argument = check_spec(spec), spec.partition(":")[2]
    if any(option is not None for option in options):
        raise QuantizationError(
            f"data {spec!r} go to the network as they are: leave --image-size, --channels, --mean and --std out"
        )
    if kind == "npy":
        from .npy_files import load_npy

        return load_npy(Path(argument), wanted)
    if kind == "testset":
        from .test_sets import load_test_sets

        return load_test_sets(Path(argument), wanted)
    from .from_function import load_function

    return load_function(spec, wanted)
