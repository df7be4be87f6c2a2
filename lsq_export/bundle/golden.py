"""Golden vectors, as ONNX's own test runner reads them: an input and the outputs that belong to it.

<format>/test_data_set_0/input_0.pb, …, output_0.pb, output_1.pb, …     tensors with their names
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from onnx import numpy_helper

from calib.arrays import Arrays
from calib.errors import DamagedError

from .layout import SUMS
from .reading import Files, parse_tensor

DATA_SET = "test_data_set_0"


def write_golden(directory: Path, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]) -> None:
    """directory: of the format. inputs, outputs: {name: value}, [N, …] each."""
    data = directory / DATA_SET
    data.mkdir(parents=True)
    for kind, tensors in (("input", inputs), ("output", outputs)):
        for index, (name, value) in enumerate(tensors.items()):
            (data / f"{kind}_{index}.pb").write_bytes(numpy_helper.from_array(value, name).SerializeToString())


def read_golden(files: Files, format_name: str) -> tuple[Arrays, dict[str, np.ndarray]]:
    """The input, or {name: input} of several, and the outputs by name, of a format.

    Errors (DamagedError): files that are missing or cannot be read.
    """
    names = golden_files(files, format_name)
    first = f"{format_name}/{DATA_SET}/input_0.pb"
    if first not in names:
        raise files.error(first, f"is not in {SUMS}")
    inputs = dict(_read(files, name) for name in names if _kind(name) == "input")
    outputs = dict(_read(files, name) for name in names if _kind(name) != "input")
    return next(iter(inputs.values())) if len(inputs) == 1 else inputs, outputs


def golden_files(files: Files, format_name: str) -> list[str]:
    """Names of the files of golden vectors of a format, those of inputs first, each in the order of their numbers."""
    folder = f"{format_name}/{DATA_SET}/"
    found = (name for name in files.sums if name.startswith(folder) and name.endswith(".pb"))
    return sorted(found, key=lambda name: (_kind(name), len(name), name))


def _kind(file: str) -> str:
    """input or output."""
    return file.rpartition("/")[2].rpartition("_")[0]


def _read(files: Files, name: str) -> tuple[str, np.ndarray]:
    try:
        tensor = parse_tensor(files.content(name))
    except DamagedError:
        raise
    except ValueError as error:
        raise files.error(name, f"is no readable tensor ({error})") from error
    return tensor.name, numpy_helper.to_array(tensor)
