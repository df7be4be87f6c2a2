"""`testset:DIR`: inputs as tests of ONNX files have them, test_data_set_0/input_0.pb and so on.

Each file is a TensorProto; input_0 is for the first input of the network, input_1 for the next one. The sets are
batches, one after the other; what they say of outputs is not read.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from calib.errors import QuantizationError
from calib.samples import Samples, shape_of

from .array_rows import Wanted, checked_kind, dataset_of
from .dataset import Dataset, TensorSplit
from .splitting import stratified_split


def load_test_sets(directory: Path, wanted: Wanted) -> Dataset:
    """The data set of all test sets of a directory, or of one.

    Errors (QuantizationError): no sets, damaged tensors, other inputs than the network takes, sets of several shapes.
    """
    batches = [_batch(folder, wanted) for folder in sets_in(directory)]
    first, where = batches[0], f"testset:{directory}"
    for folder, batch in zip(sets_in(directory), batches, strict=True):
        shapes, expected = ({name: array.shape[1:] for name, array in found.items()} for found in (batch, first))
        if shapes != expected:
            raise QuantizationError(f"{folder} has inputs of other names or sizes than the first set: give equal ones")
    x = {name: torch.from_numpy(np.concatenate([batch[name] for batch in batches])) for name in wanted.names or first}
    if len({len(tensor) for tensor in x.values()}) > 1:
        sizes = ", ".join(f"{name} {len(tensor)}" for name, tensor in x.items())
        raise QuantizationError(f"{where}: the inputs have other numbers of samples ({sizes}): they must match")
    given = Samples(x) if len(x) > 1 else next(iter(x.values()))
    everything = TensorSplit(given, torch.empty((len(given), 0), dtype=torch.int64))
    indices = stratified_split(np.zeros(len(given)), where)
    train, test = (TensorSplit(*everything.fetch(torch.from_numpy(index))) for index in indices)
    return dataset_of(where, "testset", (train, test), shape_of(given), 0, drawn=True)


def sets_in(directory: Path) -> list[Path]:
    """The directories of the sets, in the order of their numbers. Errors (QuantizationError): there is none."""
    found = [directory] if (directory / "input_0.pb").is_file() else _numbered(directory, r"test_data_set_(\d+)")
    if not found:
        raise QuantizationError(f"{directory} has no test_data_set_0, nor input_0.pb: give a directory that has")
    return found


def _numbered(directory: Path, pattern: str) -> list[Path]:
    named = [(re.fullmatch(pattern, path.name), path) for path in directory.iterdir()]
    return [path for _, path in sorted((int(match[1]), path) for match, path in named if match)]


def _batch(folder: Path, wanted: Wanted) -> dict[str, np.ndarray]:
    """{input: array [N, …]} of one set."""
    tensors = [(path, _tensor(path)) for path in _numbered(folder, r"input_(\d+)\.pb")]
    count, names = len(tensors), [tensor.name for _, tensor in tensors]
    expected = list(wanted.names) or names
    if count != (len(wanted.names) or 1 if wanted.shape is not None else count):
        raise QuantizationError(f"{folder} has {count} inputs, the network takes {len(wanted.names) or 1}: give those")
    if sorted(names) != sorted(expected):
        names = expected
    names = [name or f"input_{index}" for index, name in enumerate(names)]
    return {name: _rows(path, name, tensor, wanted) for name, (path, tensor) in zip(names, tensors, strict=True)}


def _tensor(path: Path) -> onnx.TensorProto:
    try:
        return onnx.load_tensor(path)
    except Exception as error:  # protobuf's errors have no common base with those of files
        raise QuantizationError(f"{path} is no tensor of ONNX ({type(error).__name__}): write it anew") from error


def _rows(path: Path, name: str, tensor: onnx.TensorProto, wanted: Wanted) -> np.ndarray:
    try:
        array = np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError) as error:
        raise QuantizationError(f"{path} has data that do not fit its shape {list(tensor.dims)}: write it") from error
    values = array.astype(checked_kind(str(path), array.dtype))
    if not np.isfinite(values).all():
        raise QuantizationError(f"{path} holds NaN or infinity: remove that set")
    return values if wanted.is_batch(str(path), name, array.shape, unknown=array.ndim > 0) else values[None]
