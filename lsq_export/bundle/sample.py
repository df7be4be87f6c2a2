"""sample/: one sample as it was before preprocessing, and what the network has to make of it.

sample/input.png or input.npy    the sample
sample/prepared.npy              the input that preprocessing makes of it, float32 without a batch
sample/output.npy                the first output that the integer reference gives, float32 with a batch of one
sample/input.npz                 in place of both inputs, where the network takes several: each by its name, prepared

`run.py` of the bundle does the preprocessing, here and where the network is deployed: a bundle appears only if it makes
of the sample what the network's own preprocessing makes of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from calib.errors import QuantizationError, one_line
from calib.samples import Arrays
from lsq_export.data.sample import Sample

from . import run
from .origin import Origin

FOLDER, INPUT, OUTPUT = "sample", "sample/prepared.npy", "sample/output.npy"
SEVERAL = "sample/input.npz"
ROUNDING = 1e-5  # of the largest value of an input: float32 arithmetic in another order differs by less
_GIVE = "give the preprocessing that the network was trained with, or no sample"


def prepared_input(sample: Sample, origin: Origin, shape: tuple[int, ...]) -> np.ndarray:
    """What `run.py` makes of a sample, float32 [1, *shape].

    shape: of the input, without the batch.
    Errors (QuantizationError): it cannot, or it is not what the sample says; a label that is no class.
    """
    how = origin.preprocessing
    if not isinstance(sample, Sample) or not isinstance(sample.source, np.ndarray):
        raise QuantizationError("sample must be lsq_export.data.Sample(source, x, label), with a numpy array as source")
    if how is None:
        raise QuantizationError(f"sample needs preprocessing=…, which says what was done to it: {_GIVE}")
    count = len(origin.classes) if origin.classes is not None else None
    if sample.label is not None and not (sample.label >= 0 and (count is None or sample.label < count)):
        raise QuantizationError(
            f"the sample's label is {sample.label}: give the number of its class, counted from 0, or None"
        )
    expected = sample.x.numpy() if isinstance(sample.x, torch.Tensor) else np.asarray(sample.x)
    if expected.shape != shape:
        raise QuantizationError(
            f"the sample's x has the shape {list(expected.shape)}, the example input without its batch {list(shape)}"
        )
    try:
        found = run.preprocess(sample.source, how, shape)
    except Exception as error:  # of whatever the user's preprocessing holds
        raise QuantizationError(
            f"the sample cannot be preprocessed as preprocessing says ({one_line(error)}): {_GIVE}"
        ) from error
    furthest = float(np.abs(found - expected).max())
    if not furthest <= ROUNDING * max(1.0, float(np.abs(expected).max())):
        raise QuantizationError(
            f"the sample, preprocessed as preprocessing says, differs from its x by up to {furthest:.3g}: {_GIVE}"
        )
    return found[None]


def noise_like(images: Any, count: int) -> Any:
    """Noise float32 [count, …], the same on every machine, that tells no more of images [N, …] than their range.

    images: or {name: array} of several inputs, of which integers and masks are drawn evenly from their range.
    """
    if isinstance(images, Mapping):
        return {name: noise_like(array, count) for name, array in images.items()}
    random = np.random.default_rng(0)
    if images.dtype.kind != "f":
        low, high = int(images.min()), int(images.max())
        return random.integers(low, high, (count, *images.shape[1:]), endpoint=True).astype(images.dtype)
    drawn = random.random((count, *images.shape[1:]), np.float32)
    low, high = np.float32(images.min()), np.float32(images.max())
    return np.asarray(low + drawn * (high - low), np.float32)


def write_sample(
    directory: Path, sample: Sample | None, golden: tuple[Arrays, np.ndarray], manifest: dict[str, Any]
) -> None:
    """Write sample/, and its entry of the manifest.

    sample: None takes the golden input itself. golden: the first golden input and its first output, each a batch of
    one. manifest: what `run.py` reads of it; the entry is added.
    Errors (QuantizationError): `run.py` does not make the golden input of the file.
    """
    (directory / FOLDER).mkdir()
    x, output = golden
    if isinstance(x, Mapping):
        _write_several(directory, x, output, manifest)
        return
    source = x[0] if sample is None else sample.source
    file = _write_source(directory / FOLDER, source, x.shape[1:])
    np.save(directory / INPUT, x[0], allow_pickle=False)
    np.save(directory / OUTPUT, output, allow_pickle=False)
    manifest["sample"] = {
        "file": f"{FOLDER}/{file.name}",
        "type": str(source.dtype),
        "shape": list(source.shape),
        "range": [float(source.min()), float(source.max())],
        "prepared": sample is None,
        "input": INPUT,
        "output": OUTPUT,
        "class": _class_of(output),
        "label": None if sample is None else sample.label,
    }
    if not np.array_equal(run.read(file, manifest, prepared=sample is None), x[0]):
        raise QuantizationError(
            "the sample, read from the file that was written, gives another input: please report this"
        )


def _write_several(directory: Path, x: Mapping[str, np.ndarray], output: np.ndarray, manifest: dict[str, Any]) -> None:
    """Inputs by their names, prepared."""
    file = directory / SEVERAL
    np.savez(file, **{name: array[0] for name, array in x.items()})
    np.save(directory / OUTPUT, output, allow_pickle=False)
    low, high = (min(float(a.min()) for a in x.values()), max(float(a.max()) for a in x.values()))
    manifest["sample"] = {
        "file": SEVERAL,
        "type": "npz",
        "shape": [],
        "range": [low, high],
        "prepared": True,
        "input": SEVERAL,
        "output": OUTPUT,
        "class": _class_of(output),
        "label": None,
    }


def _class_of(output: np.ndarray) -> int | None:
    """The class of a batch of one, where the output is logits."""
    return int(output[0].argmax()) if output.ndim == 2 and output.size > 1 and output.dtype.kind == "f" else None


def _write_source(directory: Path, source: np.ndarray, shape: tuple[int, ...]) -> Path:
    """As an image where it is one and Pillow is there, else as an array."""
    pixels = _pixels(source, shape)
    if pixels is not None:
        try:
            from PIL import Image
        except ImportError:
            pass
        else:
            Image.fromarray(pixels).save(directory / "input.png")
            return directory / "input.png"
    np.save(directory / "input.npy", source, allow_pickle=False)
    return directory / "input.npy"


def _pixels(source: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """[H, W] or [H, W, 3] of 8 bits, if that is what the source is: gray or RGB as the network takes them."""
    if source.dtype != np.uint8 or len(shape) != 3:
        return None
    if source.shape == shape and shape[0] in (1, 3):
        source = np.ascontiguousarray(np.moveaxis(source, 0, -1)).squeeze(-1 if shape[0] == 1 else ())
    gray, color = source.ndim == 2 and shape[0] == 1, source.ndim == 3 and source.shape[2] == shape[0] == 3
    return source if gray or color else None
