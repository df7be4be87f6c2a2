"""`npz:FILE` of a network with several inputs: an array for each of them, called as in its forward.

    numpy.savez("data.npz", image=…, tokens=…, mask=…, y=…)              split 80:20, or
    numpy.savez("data.npz", image_train=…, …, y_train=…, image_test=…, …, y_test=…)

Floats, integers (tokens) and bools (masks), [M, …] each, are given to the network as they are; y: the classes, [M].
Calibration asks for none: the inputs alone are enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from calib.errors import QuantizationError
from calib.samples import Samples, shape_of

from .array_rows import as_taken, checked_kind, dataset_of, drawn
from .dataset import Dataset, TensorSplit

OTHERS = ("classes",)  # arrays that are no inputs
ENDS = ("_train", "_test")
Arrays = Mapping[str, np.ndarray]


def inputs_of(arrays: Arrays) -> dict[str, list[str]] | None:
    """{end of the names: inputs} of each split; None where the arrays are no inputs by name: x alone, or odd ones.

    Without classes none of them may be called y.
    """
    ends = ENDS if {f"y{end}" for end in ENDS} <= arrays.keys() else ("",) if "y" in arrays else ()
    if not {"y", *(f"y{end}" for end in ENDS)} & arrays.keys():
        ends = ENDS if all(name.endswith(ENDS) for name in arrays.keys() - {*OTHERS}) else ("",)
    known = {*OTHERS, *(f"y{end}" for end in ends)}
    found = {
        end: [name.removesuffix(end) for name in arrays if name.endswith(end) and name not in known] for end in ends
    }
    return found if found and all(names and names != ["x"] for names in found.values()) else None


def load_inputs(path: Path, arrays: Arrays, inputs: Mapping[str, list[str]]) -> Dataset:
    """The data set of named arrays. inputs: as `inputs_of` gives them.

    Errors (QuantizationError): names that the other split lacks, types, lengths, labels, NaN or infinity.
    """
    first, *others = inputs.values()
    for names in others:
        if odd := sorted({*first} ^ {*names}):
            raise QuantizationError(f"{path}: the input {odd[0]} is in one split only: give both the same inputs")
    splits = [_split(path, arrays, end, first) for end in inputs]
    if len(splits) == 1:
        splits = [*drawn(splits[0], str(path))]
    shape, other = (shape_of(split.x) for split in splits)
    if shape != other:
        odd = next(name for name in shape if shape[name] != other[name])
        raise QuantizationError(f"{path}: {odd} has the shape {shape[odd]} in one split, {other[odd]} in the other")
    classes = 1 + max(int(split.y.max()) for split in splits) if splits[0].y.dim() == 1 else 0
    return dataset_of(f"npz:{path}", "npz", (splits[0], splits[1]), shape, classes, own=len(inputs) > 1)


def _split(path: Path, arrays: Arrays, end: str, names: list[str]) -> TensorSplit:
    y = arrays.get(f"y{end}")
    if y is None:  # as many samples as the first input has, and no class for any
        y = np.empty((*arrays[f"{names[0]}{end}"].shape[:1], 0), np.int64)
    elif y.ndim != 1 or y.dtype.kind not in "iu" or not y.size or int(y.min()) < 0 or int(y.max()) >= 2**31:
        raise QuantizationError(
            f"{path}: y{end} is {y.dtype} of shape {list(y.shape)}: use one class, 0 … classes - 1, for each sample"
        )
    whose = "classes" if y.ndim == 1 else f"samples of {names[0]}{end}"
    found = {name: _tensor(f"{path}: {name}{end}", arrays[f"{name}{end}"], len(y), whose) for name in names}
    return TensorSplit(Samples(found), torch.from_numpy(y.astype(np.int64)))


def _tensor(what: str, array: np.ndarray, count: int, whose: str) -> torch.Tensor:
    """[M, …]: float32, int64 or bool. whose: what there are `count` of."""
    checked_kind(what, array.dtype)
    if array.ndim < 1 or len(array) != count:
        raise QuantizationError(f"{what} has the shape {list(array.shape)}, there are {count} {whose}: they must match")
    return torch.from_numpy(as_taken(what, array))
