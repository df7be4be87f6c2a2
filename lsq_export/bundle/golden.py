"""Golden vectors, as ONNX's own test runner reads them: an input and the outputs that belong to it.

<format>/test_data_set_0/input_0.pb, output_0.pb, output_1.pb, …     tensors with their names
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from onnx import numpy_helper

from calib.errors import DamagedError

from .layout import SUMS
from .reading import Files, parse_tensor

DATA_SET = "test_data_set_0"
_INPUT = f"{DATA_SET}/input_0.pb"


def write_golden(directory: Path, name: str, x: np.ndarray, outputs: Mapping[str, np.ndarray]) -> None:
    """directory: of the format. name: of the input. x: float32 [N, …]. outputs: {name: value}."""
    data = directory / DATA_SET
    data.mkdir(parents=True)
    (data / "input_0.pb").write_bytes(numpy_helper.from_array(x, name).SerializeToString())
    for index, (output, value) in enumerate(outputs.items()):
        (data / f"output_{index}.pb").write_bytes(numpy_helper.from_array(value, output).SerializeToString())


def read_golden(files: Files, format_name: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The input, and the outputs by name, of a format.

    Errors (DamagedError): files that are missing or cannot be read.
    """
    names = golden_files(files, format_name)
    if f"{format_name}/{_INPUT}" not in names:
        raise files.error(f"{format_name}/{_INPUT}", f"is not in {SUMS}")
    tensors = [_read(files, name) for name in names]
    return tensors[0][1], dict(tensors[1:])


def golden_files(files: Files, format_name: str) -> list[str]:
    """Names of the files of golden vectors of a format, that of the input first."""
    folder = f"{format_name}/{DATA_SET}/"
    return sorted(name for name in files.sums if name.startswith(folder) and name.endswith(".pb"))


def _read(files: Files, name: str) -> tuple[str, np.ndarray]:
    try:
        tensor = parse_tensor(files.content(name))
    except DamagedError:
        raise
    except ValueError as error:
        raise files.error(name, f"is no readable tensor ({error})") from error
    return tensor.name, numpy_helper.to_array(tensor)
