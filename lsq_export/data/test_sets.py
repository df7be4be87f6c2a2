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
from calib.samples import shape_of
from calib.words import counted

from .array_rows import Wanted, as_taken, dataset_of, drawn, forms_of, joined
from .dataset import Dataset, TensorSplit


def load_test_sets(directory: Path, wanted: Wanted) -> Dataset:
    """The data set of all test sets of a directory, or of one.

    Errors (QuantizationError): no sets, damaged tensors, other inputs than the network takes, sets of several shapes.
    """
    folders, where = sets_in(directory), f"testset:{directory}"
    batches = [_batch(folder, wanted) for folder in folders]
    first = batches[0]
    for folder, batch in zip(folders, batches, strict=True):
        if forms_of(batch) != forms_of(first):
            raise QuantizationError(
                f"{folder} has inputs of other names, types or sizes than the first set: give equal ones"
            )
    sizes = {name: sum(len(batch[name]) for batch in batches) for name in wanted.names or first}
    if len({*sizes.values()}) > 1:
        listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise QuantizationError(f"{where}: the inputs have other numbers of samples ({listed}): they must match")
    given = joined(batches, sizes)
    everything = TensorSplit(given, torch.empty((len(given), 0), dtype=torch.int64))
    return dataset_of(where, "testset", drawn(everything, where), shape_of(given), 0, own=False)


def sets_in(directory: Path) -> list[Path]:
    """The directories of the sets, in the order of their numbers. Errors (QuantizationError): there is none."""
    found = [directory] if (directory / "input_0.pb").is_file() else _numbered(directory, r"test_data_set_(\d+)")
    if not found:
        raise QuantizationError(f"{directory} has no test_data_set_0, nor input_0.pb: give a directory that has")
    return found


def _numbered(directory: Path, pattern: str) -> list[Path]:
    named = [(re.fullmatch(pattern, path.name), path) for path in directory.iterdir()]
    found = sorted((int(match[1]), path) for match, path in named if match)
    return [path for _, path in found if path.is_dir() == (not path.suffix)]


def _batch(folder: Path, wanted: Wanted) -> dict[str, np.ndarray]:
    """{input: array [N, …]} of one set."""
    tensors = [(path, _tensor(path)) for path in _numbered(folder, r"input_(\d+)\.pb")]
    count, names = len(tensors), [tensor.name for _, tensor in tensors]
    if not count:
        raise QuantizationError(f"{folder} has no input_0.pb: give sets with inputs")
    if len({*names}) < count:
        names = [""] * count
    expected, taken = list(wanted.names) or names, len(wanted.names) or 1
    if wanted.shape is not None and count != taken:
        raise QuantizationError(f"{folder} has {counted(count, 'input')}, the network takes {taken}: give those")
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
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise QuantizationError(f"{path} has its numbers in another file: write them into it, with onnx.save_tensor")
    try:
        array = np.asarray(numpy_helper.to_array(tensor))
    except Exception as error:  # data of another size, or of a type that onnx does not know
        raise QuantizationError(f"{path} has data that do not fit its type and shape: write it anew") from error
    values = as_taken(str(path), array)
    return values if wanted.is_batch(str(path), name, array.shape, unknown=array.ndim > 0) else values[None]
