"""ONNX Runtime as verification uses it: one session a file, optionally with every tensor as an output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

from calib.errors import QuantizationError

LEVELS: Mapping[str, ort.GraphOptimizationLevel] = {
    "default": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "disabled": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


class Session:
    """An ONNX Runtime CPU session. run(x) gives {name: array} of the model's outputs, or of `tensors` beside them."""

    def __init__(
        self, proto: onnx.ModelProto, level: str = "default", tensors: list[str] | None = None, what: str = "model"
    ) -> None:
        options = ort.SessionOptions()
        options.graph_optimization_level = LEVELS[level]
        options.log_severity_level = 4  # what fails is raised
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # several sessions take turns here
        if tensors:
            wider = onnx.ModelProto()
            wider.CopyFrom(proto)
            present = {output.name for output in proto.graph.output}
            wider.graph.output.extend(
                onnx.helper.make_empty_tensor_value_info(name) for name in tensors if name not in present
            )
            proto = wider
        self.what = what
        try:
            self._session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise QuantizationError(
                f"{what}: ONNX Runtime {ort.__version__} cannot load it ({' '.join(str(error).split())})"
            ) from error
        self._input = self._session.get_inputs()[0].name
        self._names = [output.name for output in self._session.get_outputs()]

    def run(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """x: float32 [N, …]."""
        try:
            return dict(zip(self._names, self._session.run(None, {self._input: x}), strict=True))
        except Exception as error:
            raise QuantizationError(
                f"{self.what}: ONNX Runtime {ort.__version__} cannot run it ({' '.join(str(error).split())})"
            ) from error


def integer_tensors(proto: onnx.ModelProto) -> list[str]:
    """Outputs of all nodes of a qoperator file:

    every tensor that ONNX Runtime and the integer reference must agree on.
    """
    return [name for node in proto.graph.node for name in node.output if name]


@dataclass(frozen=True)
class Readable:
    """A tensor of codes that ONNX Runtime shows as the values of a DequantizeLinear behind it:

    not every container can leave a session.
    """

    values: str
    scale: float
    zero_point: int

    def codes(self, values: np.ndarray) -> np.ndarray:
        return np.rint(values / np.float32(self.scale)).astype(np.int32) + self.zero_point


def readable_codes(proto: onnx.ModelProto) -> dict[str, Readable]:
    """{tensor of codes: how to read it} of a qdq file: the activations, as far as a DequantizeLinear reads them."""
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    found = {}
    for node in proto.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] not in constants and node.input[0] not in found:
            scale, zero_point = (numpy_helper.to_array(constants[name]) for name in node.input[1:3])
            found[node.input[0]] = Readable(node.output[0], float(scale), int(zero_point))
    return found
