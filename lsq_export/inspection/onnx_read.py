"""Reading ONNX files: constants, shapes, and which tensors an operator reads and writes with which grid."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from calib.errors import QuantizationError, one_line


def load_model(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """The model of a file. Errors (QuantizationError): missing, not readable, no ONNX file."""
    path = Path(path)
    if not path.is_file():
        raise QuantizationError(f"{path} {'is a directory' if path.is_dir() else 'does not exist'}: give an ONNX file")
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's DecodeError, OSError, missing external data, …
        raise QuantizationError(
            f"{path} cannot be read as ONNX ({one_line(error)}): export or copy it again"
        ) from error
    if not model.graph.node:  # almost any few bytes parse as an empty protobuf message
        raise QuantizationError(f"{path} cannot be read as ONNX (no graph in it): export or copy it again")
    return model


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """The value of an attribute, or the default."""
    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


class Constants:
    """Initializers and Constant nodes, by name."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._tensors = {t.name: t for t in model.graph.initializer}
        for node in model.graph.node:
            value = attribute(node, "value") if node.op_type == "Constant" else None
            if value is not None:
                self._tensors[node.output[0]] = value

    def get(self, name: str) -> np.ndarray | None:
        """The array; integers of every width come as int64. None for what is computed, or for an operand left out."""
        if name not in self._tensors:
            return None
        array = onnx.numpy_helper.to_array(self._tensors[name])
        return array.astype(np.float64 if array.dtype in (np.float16, np.float32, np.float64) else np.int64)

    def type(self, name: str) -> str | None:
        """The ONNX name of the element type (INT8, …); None for what is computed."""
        tensor = self._tensors.get(name)
        return None if tensor is None else onnx.TensorProto.DataType.Name(tensor.data_type)


def shapes_of(model: onnx.ModelProto) -> dict[str, tuple[int | str, ...]]:
    """Shapes of the tensors where the file states them or ONNX can infer them."""
    # larger than 2 GiB, or operators that contradict each other: then what the file states is enough
    with contextlib.suppress(Exception):
        model = onnx.shape_inference.infer_shapes(model)
    graph, shapes = model.graph, {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            shapes[value.name] = tuple(
                d.dim_param or (d.dim_value if d.HasField("dim_value") else "?")
                for d in value.type.tensor_type.shape.dim
            )
    return shapes


@dataclass(frozen=True)
class Operand:
    """A quantized tensor at an operator.

    tensor, scale, zero_point: names; "" for none. axis: of the channels, if there are several scales.
    """

    tensor: str
    scale: str
    zero_point: str
    axis: int = 0
    is_output: bool = False
    is_bias: bool = False


_UNARY = ([(0, 1, 2)], (3, 4), None)
_BINARY = ([(0, 1, 2), (3, 4, 5)], (6, 7), None)
# operator -> positions of (tensor, scale, zero point) of each quantized input, of (scale, zero point) of the output, of
# the bias
_POSITIONS: dict[str, tuple[list[tuple[int, int, int]], tuple[int, int] | None, int | None]] = {
    "QuantizeLinear": ([], (1, 2), None),
    "DequantizeLinear": ([(0, 1, 2)], None, None),
    "QLinearConv": ([(0, 1, 2), (3, 4, 5)], (6, 7), 8),
    "QLinearMatMul": _BINARY,
    "QLinearAdd": _BINARY,
    "QLinearMul": _BINARY,
    "QGemm": ([(0, 1, 2), (3, 4, 5)], (7, 8), 6),
    "QLinearLeakyRelu": _UNARY,
    "QLinearSigmoid": _UNARY,
    "QLinearSoftmax": _UNARY,
    "QLinearGlobalAveragePool": _UNARY,
    "QLinearAveragePool": _UNARY,
    "QLinearReduceMean": _UNARY,
    "ConvInteger": ([(0, -1, 2), (1, -1, 3)], None, None),  # no scales
    "MatMulInteger": ([(0, -1, 2), (1, -1, 3)], None, None),
}


def operands(node: onnx.NodeProto) -> Iterator[Operand]:
    """The quantized tensors of an operator: inputs, bias, output; none for operators that carry no grids."""

    def name(index: int) -> str:
        return node.input[index] if 0 <= index < len(node.input) else ""

    if node.op_type == "QLinearConcat":
        for i in range(2, len(node.input), 3):
            yield Operand(name(i), name(i + 1), name(i + 2))
        yield Operand(node.output[0], name(0), name(1), is_output=True)
        return
    if node.op_type not in _POSITIONS:
        return
    inputs, output, bias = _POSITIONS[node.op_type]
    axis = _weight_axis(node)
    for tensor, scale, zero_point in inputs:
        yield Operand(name(tensor), name(scale), name(zero_point), axis)
    if bias is not None and name(bias):
        yield Operand(name(bias), "", "", is_bias=True)
    if output is not None and (name(output[0]) or node.op_type != "QGemm"):  # without a scale it makes floats
        yield Operand(node.output[0], name(output[0]), name(output[1]), axis, is_output=True)


def _weight_axis(node: onnx.NodeProto) -> int:
    if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        return int(attribute(node, "axis", 1))
    if node.op_type in ("QLinearMatMul", "MatMulInteger"):
        return -1
    return 1 if node.op_type == "QGemm" and not attribute(node, "transB", 0) else 0
