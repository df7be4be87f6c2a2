"""`npz:FILE`: arrays x_train, y_train, x_test, y_test, or x and y, which are split 80:20; names of classes.

Arrays of other names are inputs of a network that takes several (npz_inputs.py).
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from calib.errors import QuantizationError, one_line, warn
from calib.words import counted

from .dataset import Dataset, Source, TensorSplit
from .normalization import per_channel
from .npz_inputs import inputs_of, load_inputs
from .splitting import DRAWN, stratified_split

_KEYS = ("x_train", "y_train", "x_test", "y_test")


def load_npz(
    path: Path,
    image_size: int | None = None,
    channels: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Dataset:
    """The data set of a file of arrays.

    x: [M, C, H, W] or [M, H, W], uint8 (scaled to 0 … 1) or float (taken as it is). y: integers 0 … classes - 1, [M];
    without y, or where it is of another form (masks, boxes), the data have no classes, which is said of the latter.
    mean, std: without them the images are not normalized.
    classes, if the file has it: names, one string for each class.

    Errors (QuantizationError): missing or damaged file, pickled arrays, wrong keys, types, shapes, lengths or labels,
    NaN or infinity.
    """
    arrays = _read(path)
    if inputs := inputs_of(arrays):
        _check_plain(path, (image_size, channels, mean, std))
        return load_inputs(path, arrays, inputs)
    labels = _labels(path, arrays)
    xs = [arrays[f"x{label}"] for label in labels]
    divide_by = 255.0 if xs[0].dtype == np.uint8 else 1.0
    ys = _classes(path, arrays, labels)
    splits = [_split(path, label, x, y) for label, x, y in zip(labels, xs, ys, strict=True)]
    if len({x.dtype == np.uint8 for x in xs}) > 1:
        raise QuantizationError(
            f"{path}: x_train is {xs[0].dtype} and x_test is {xs[1].dtype}; give both the same type"
        )
    if len(splits) == 1:
        drawn = splits[0].y.numpy() if splits[0].y.dim() == 1 else np.zeros(len(splits[0]))
        train, test = (torch.from_numpy(index) for index in stratified_split(drawn, str(path)))
        splits = [TensorSplit(*splits[0].fetch(part), sources=xs[0][part[:1].numpy()]) for part in (train, test)]
    shape = _shape(path, splits)
    _check_size(path, shape, (channels, image_size, image_size))
    count, pixels = shape[0], divide_by != 1
    means, stds = per_channel("mean", mean, count, pixels), per_channel("std", std, count, pixels)
    if means or stds:  # whoever reads one of them needs the other
        means, stds = means or (0.0,) * count, stds or (1.0,) * count
    num_classes = _num_classes(path, splits)
    normalized = [replace(split, x=_normalized(split.x, means, stds)) for split in splits]
    return Dataset(
        name=f"npz:{path}",
        train=normalized[0],
        test=normalized[1],
        num_classes=num_classes,
        input_shape=shape,
        preprocessing={
            "data": "npz",
            "resize": None,
            "interpolation": None,
            "crop": None,
            "divide_by": divide_by,
            "mean": means and list(means),
            "std": stds and list(stds),
        },
        classes=_names(path, arrays.get("classes"), num_classes) if num_classes else None,
        source=Source(sizes=f"{shape[2]}×{shape[1]}", split="" if len(xs) > 1 else DRAWN),
    )


def _check_plain(path: Path, options: tuple[object, ...]) -> None:
    if any(option is not None for option in options):
        raise QuantizationError(
            f"{path} has inputs by name, which go to the network as they are: leave --image-size, --channels, --mean "
            "and --std out"
        )


def _shape(path: Path, splits: list[TensorSplit]) -> tuple[int, int, int]:
    """(C, H, W) of the images of both splits."""
    one, other = (tuple(split.x.shape[1:]) for split in splits)
    if one != other:
        raise QuantizationError(
            f"{path}: images of x_train have the shape {one}, those of x_test {other}; make them equal"
        )
    return one[0], one[1], one[2]


def _labels(path: Path, arrays: dict[str, np.ndarray]) -> list[str]:
    """What the names of the arrays end with, for each split that the file has."""
    if set(_KEYS) <= set(arrays):
        return ["_train", "_test"]
    if "x" in arrays:
        return [""]
    if {"x_train", "x_test"} <= set(arrays) and not {"y_train", "y_test"} & set(arrays):
        return ["_train", "_test"]
    raise QuantizationError(
        f"{path} holds {', '.join(sorted(arrays)) or 'nothing'}: it must hold {', '.join(_KEYS)}, or x and y; without "
        "classes, x_train and x_test, or x"
    )


def _classes(path: Path, arrays: dict[str, np.ndarray], labels: list[str]) -> list[np.ndarray | None]:
    """The y of each split; None where samples have no single class."""
    found = [arrays.get(f"y{label}") for label in labels]
    odd = next((y for y in found if y is not None and y.ndim != 1), None)
    if odd is not None:
        warn(f"{path}: y has the shape {list(odd.shape)}, which is no class for each sample: it is not used")
    return [None] * len(labels) if odd is not None or any(y is None for y in found) else found


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise QuantizationError(f"data file {path} does not exist: check the path after npz:")
    try:
        with path.open("rb") as file:  # given a path, numpy leaves the file of a damaged archive open
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise QuantizationError(
                    f"{path} is a single array (.npy): write an archive with numpy.savez(path, x=…, y=…)"
                )
            with archive:
                return {key: _array(path, archive, key) for key in archive.files}
    except QuantizationError:
        raise
    except MemoryError as error:
        raise QuantizationError(
            f"{path} says that it holds more than there is memory for ({one_line(error)}): write it again, or in parts"
        ) from error
    except (ValueError, OSError, EOFError, KeyError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
        if "pickle" in str(error).lower() or "object array" in str(error).lower():
            raise QuantizationError(
                f"{path} holds pickled data, or is no npz file; nothing is unpickled here: save plain numeric arrays"
            ) from error
        raise QuantizationError(
            f"{path} cannot be read as an npz archive ({one_line(error)}): write it again with numpy.savez"
        ) from error


def _array(path: Path, archive: np.lib.npyio.NpzFile, key: str) -> np.ndarray:
    """Errors (QuantizationError): a member of the archive that is no array."""
    array = archive[key]
    if not isinstance(array, np.ndarray):  # numpy gives the bytes of other files
        raise QuantizationError(f"{path}: {key} is no array: write the file with numpy.savez, from arrays alone")
    return array


def _split(path: Path, label: str, x: np.ndarray, y: np.ndarray | None) -> TensorSplit:
    x_name, y_name = f"{path}: x{label}", f"{path}: y{label}"
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise QuantizationError(
            f"{x_name} is {x.dtype}: use uint8 (0 … 255) or float32 for images; tokens go by another name, tokens=…"
        )
    if x.ndim == 3:
        x = x[:, None]  # [M, 1, H, W]
    if x.ndim != 4 or 0 in x.shape:
        raise QuantizationError(
            f"{x_name} has the shape {list(x.shape)}: use [samples, channels, height, width], none of them 0"
        )
    if x.shape[3] in (1, 3, 4) and x.shape[1] not in (1, 3, 4):
        raise QuantizationError(
            f"{x_name} has the shape {list(x.shape)}, channels last: transpose it to [samples, channels, height, width]"
        )
    if y is None:
        y = np.empty((len(x), 0), np.int64)
    else:
        _check_classes(x_name, y_name, len(x), y)
    with np.errstate(over="ignore"):
        values = x.astype(np.float32) / np.float32(255) if x.dtype == np.uint8 else x.astype(np.float32)
    if not np.isfinite(values).all():
        sample = int(np.argwhere(~np.isfinite(values))[0][0])
        raise QuantizationError(f"{x_name} holds NaN or infinity (first in sample {sample}): remove such samples")
    return TensorSplit(torch.from_numpy(np.ascontiguousarray(values)), torch.from_numpy(y.astype(np.int64)), x[:1])


def _check_classes(x_name: str, y_name: str, count: int, y: np.ndarray) -> None:
    if y.dtype.kind not in "iu":
        raise QuantizationError(
            f"{y_name} is {y.dtype} of shape {list(y.shape)}: use one integer class for each sample"
        )
    if count != len(y):
        of = y_name.rpartition(" ")[2]
        raise QuantizationError(
            f"{x_name} holds {counted(count, 'sample')} and {of} {counted(len(y), 'label')}: they must match"
        )
    if int(y.max()) >= 2**31:
        raise QuantizationError(f"{y_name} holds the label {int(y.max())}: number the classes 0 … classes - 1")
    if int(y.min()) < 0:
        raise QuantizationError(f"{y_name} holds the label {int(y.min())}: use 0 … classes - 1")


def _check_size(path: Path, shape: tuple[int, ...], asked: tuple[int | None, ...]) -> None:
    for what, expected, size in zip(("channels", "height", "width"), asked, shape, strict=True):
        if expected is not None and expected != size:
            raise QuantizationError(
                f"{path}: images have {what} {size} where {expected} is asked for; npz data stay as they are: change "
                "the file"
            )


def _normalized(x: torch.Tensor, mean: tuple[float, ...] | None, std: tuple[float, ...] | None) -> torch.Tensor:
    """(x - mean) / std for each channel of x [M, C, H, W]. None: without that step."""
    x = x if mean is None else x - torch.tensor(mean)[:, None, None]
    return x if std is None else x / torch.tensor(std)[:, None, None]


def _num_classes(path: Path, splits: list[TensorSplit]) -> int:
    if splits[0].y.dim() != 1:
        return 0
    num_classes = 1 + max(int(split.y.max()) for split in splits)
    if num_classes < 2:
        raise QuantizationError(f"{path} holds one class only: two are needed")
    if num_classes > sum(len(split) for split in splits):
        raise QuantizationError(
            f"{path} holds the label {num_classes - 1}, more than it has samples: number the classes 0 … classes - 1"
        )
    return num_classes


def _names(path: Path, names: np.ndarray | None, num_classes: int) -> tuple[str, ...] | None:
    """Names of the classes, if the file has them."""
    if names is None:
        return None
    if names.dtype.kind != "U" or names.shape != (num_classes,):
        raise QuantizationError(
            f"{path}: classes is {names.dtype} of shape {list(names.shape)}: use {num_classes} strings, one for each "
            "class"
        )
    return tuple(str(name) for name in names)
