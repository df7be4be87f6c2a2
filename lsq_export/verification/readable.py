"""Which tensors of a file a runtime can show, and how its codes are read. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

HALF = 128  # what INT8 codes are less than unsigned ones


def inputs_of(proto: onnx.ModelProto) -> list[str]:
    """Names of the inputs of a file, without constants."""
    constants = {tensor.name for tensor in proto.graph.initializer}
    return [value.name for value in proto.graph.input if value.name not in constants]


def with_outputs(proto: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    """A copy with those tensors among its outputs."""
    wider = onnx.ModelProto()
    wider.CopyFrom(proto)
    present = {output.name for output in proto.graph.output}
    wider.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in tensors if name not in present)
    return wider


def integer_tensors(proto: onnx.ModelProto) -> list[str]:
    """Outputs of all nodes of a qoperator file, on which ONNX Runtime and the integer reference must agree."""
    return [name for node in proto.graph.node for name in node.output if name]


@dataclass(frozen=True, kw_only=True)
class Readable:
    """A tensor of codes that ONNX Runtime shows as the values of a DequantizeLinear after it.

    Not every container can leave a session. values: the tensor of values.
    """

    values: str
    scale: float
    zero_point: int  # of unsigned codes

    def codes(self, values: np.ndarray) -> np.ndarray:
        """int32, of the values [N, …]."""
        return np.asarray(np.rint(values / np.float32(self.scale)).astype(np.int32) + self.zero_point)


def readable_codes(proto: onnx.ModelProto) -> dict[str, Readable]:
    """{tensor of codes: how to read it} of a qdq file: the activations, as far as a DequantizeLinear reads them.

    Other tools store constants in nodes, or compute them: a grid that is computed is none that can be read.
    """
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    constants |= {node.output[0]: a.t for node in proto.graph.node for a in _values(node)}
    readable: dict[str, Readable] = {}
    for node in proto.graph.node:
        has_zero = node.op_type == "DequantizeLinear" and len(node.input) > 2  # accumulators have none
        codes = node.input[0] if has_zero else None
        if not {*node.input[1:3]} <= {*constants}:
            continue
        if codes is not None and codes not in constants and codes not in readable:
            scale, zero_point = (numpy_helper.to_array(constants[name]) for name in node.input[1:3])
            unsigned = int(zero_point) + (HALF if zero_point.dtype == np.int8 else 0)
            readable[codes] = Readable(values=node.output[0], scale=float(scale), zero_point=unsigned)
    return readable


def _values(node: onnx.NodeProto) -> list[onnx.AttributeProto]:
    """The tensor of a Constant."""
    return [a for a in node.attribute if node.op_type == "Constant" and a.name == "value"]
