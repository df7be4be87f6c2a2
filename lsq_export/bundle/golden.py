"""Golden vectors, as ONNX's own test runner reads them: an input and the outputs that belong to it.

<format>/test_data_set_0/input_0.pb, output_0.pb, output_1.pb, …     tensors with their names
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from calib.errors import QuantizationError

DATA_SET = "test_data_set_0"


def write_golden(directory: Path, name: str, x: np.ndarray, outputs: Mapping[str, np.ndarray]) -> None:
    """directory: of the format. name: of the input. x: float32 [N, …]. outputs: {name: value}."""
    data = directory / DATA_SET
    data.mkdir(parents=True)
    (data / "input_0.pb").write_bytes(numpy_helper.from_array(x, name).SerializeToString())
    for index, (output, value) in enumerate(outputs.items()):
        (data / f"output_{index}.pb").write_bytes(numpy_helper.from_array(value, output).SerializeToString())


def read_golden(directory: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The input, and the outputs by name. directory: of the format.

    Errors (QuantizationError): files that cannot be read.
    """
    data = directory / DATA_SET
    try:
        x, *outputs = (_read(path) for path in (data / "input_0.pb", *sorted(data.glob("output_*.pb"))))
    except Exception as error:  # protobuf's own error types
        raise QuantizationError(
            f"{data} has no readable golden vectors ({type(error).__name__}); copy or export the bundle again"
        ) from error
    return x[1], dict(outputs)


def _read(path: Path) -> tuple[str, np.ndarray]:
    tensor = onnx.TensorProto.FromString(path.read_bytes())
    return tensor.name, numpy_helper.to_array(tensor)
