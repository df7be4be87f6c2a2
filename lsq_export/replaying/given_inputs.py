"""Inputs of `--data npz:FILE`, without torch: as the network takes them, or as the data are before preprocessing."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from calib.arrays import Arrays
from calib.errors import QuantizationError, one_line
from lsq_export.bundle.run import fits, preprocess

KEYS = ("x_test", "x")


def given_inputs(path: Path, manifest: Mapping[str, Any], most: int | None = None) -> Arrays:
    """The inputs in a file of arrays: x_test or x of one input, or each of several by its name, [N, …].

    Floats of the shape that the network takes are taken as they are. Everything else (pixels, arrays of another shape)
    is preprocessed, one by one, as the manifest says. most: of the samples.
    Errors (QuantizationError): no such file, no such arrays, shapes that do not fit.
    """
    arrays = _read(path)
    if "inputs" in manifest:
        return {entry["name"]: _several(path, arrays, entry)[:most] for entry in manifest["inputs"]}
    key = next((key for key in (manifest["input"]["name"], *KEYS) if key in arrays), None)
    if key is None:
        raise QuantizationError(f"{path} has {', '.join(arrays)}: give the inputs the name {' or '.join(KEYS)}")
    x, shape = arrays[key][:most], manifest["input"]["shape"][1:]
    if not x.ndim or not len(x):
        raise QuantizationError(f"{path}: {key} has no samples: give at least one")
    if x.dtype.kind == "f" and fits(x.shape[1:], shape):
        return np.ascontiguousarray(x, np.float32)
    how = manifest["preprocessing"]
    if how is None:
        raise QuantizationError(
            f"{path}: {key} is {x.dtype} {list(x.shape)}, the bundle has no preprocessing: give float32 {['N', *shape]}"
        )
    try:
        return np.stack([preprocess(one, how, shape) for one in x])
    except (ValueError, TypeError, IndexError, ImportError) as error:
        raise QuantizationError(f"{path}: {key} cannot be preprocessed ({one_line(error)}): give inputs") from error


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise QuantizationError(f"{path} is one array: give a .npz with x")
        with file:
            return dict(file)
    except OSError as error:
        raise QuantizationError(f"{path} cannot be read ({error.strerror or error}): give a .npz file") from error
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise QuantizationError(f"{path} is no .npz file of arrays ({one_line(error)}): give one") from error


def _several(path: Path, arrays: Mapping[str, np.ndarray], entry: Mapping[str, Any]) -> np.ndarray:
    name, shape = entry["name"], entry["shape"][1:]
    if name not in arrays or not fits(arrays[name].shape[1:], shape) or not len(arrays[name]):
        found = f"{list(arrays[name].shape)}" if name in arrays else f"missing: it has {', '.join(arrays)}"
        raise QuantizationError(f"{path}: {name} is {found}; the network takes {['N', *shape]}")
    return arrays[name].astype(entry["type"])
