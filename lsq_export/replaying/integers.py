"""Tensors that a runtime shows, read as integers.

    c = round(x / S) + Z

of codes, and of accumulators where an output has no grid of its own: S is then S_x·s_w, one for each channel (E6).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

AXES = {"Conv": 1, "Gemm": 1}  # of the channels in what a layer makes
GRIDS = ("QuantizeLinear", "DequantizeLinear", "Clip")


@dataclass(frozen=True, kw_only=True)
class Scale:
    """values: a number, or one for each channel along `axis`. zero_point: likewise."""

    values: np.ndarray
    zero_point: np.ndarray
    axis: int

    def integers(self, x: np.ndarray) -> np.ndarray:
        """float64 whole numbers, which may be infinite or NaN where x is."""
        scale, zero = (self._along(x.ndim, array) for array in (self.values, self.zero_point))
        return np.asarray(np.rint(x.astype(np.float64) / scale) + zero)

    def _along(self, rank: int, array: np.ndarray) -> np.ndarray:
        shape = [1] * rank
        if array.size > 1:
            shape[self.axis] = array.size
        return array.astype(np.float64).reshape(shape)


def scale_of_output(proto: onnx.ModelProto, name: str) -> Scale | None:
    """The scale of an output's integers; None: it is float, or a type that is no float."""
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    makers = {output: node for node in proto.graph.node for output in node.output}
    node = makers.get(name)
    while node is not None and node.op_type in ("Reshape", "Flatten", "Identity") and node.input[0] in makers:
        node = makers[node.input[0]]
        if node.op_type == "DequantizeLinear" and len(node.input) > 1 and _is_several(constants, node.input[1]):
            return None  # the axis may have moved
    if node is None:
        return None
    if node.op_type == "DequantizeLinear":
        return _scale(node, constants, _axis(node))
    bias = makers.get(node.input[2]) if node.op_type in AXES and len(node.input) > 2 else None
    if bias is not None and bias.op_type == "DequantizeLinear":
        return _scale(bias, constants, AXES[node.op_type])
    return None


def _is_several(constants: Mapping[str, onnx.TensorProto], name: str) -> bool:
    return name in constants and int(np.prod(constants[name].dims)) > 1


def _scale(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto], axis: int) -> Scale | None:
    if not {*node.input[1:3]} <= {*constants}:
        return None
    values = numpy_helper.to_array(constants[node.input[1]])
    zero = numpy_helper.to_array(constants[node.input[2]]) if len(node.input) > 2 else np.zeros(values.shape, np.int32)
    return Scale(values=values, zero_point=zero, axis=axis) if np.all(values > 0) else None


def _axis(node: onnx.NodeProto) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == "axis"), 1)


def made_by(proto: onnx.ModelProto, tensor: str) -> str:
    """The operator that computes what is in a tensor of codes, with its name: "Add add_70"; behind grids and Clips."""
    makers = {output: node for node in proto.graph.node for output in node.output}
    node = first = makers.get(tensor)
    while node is not None and node.op_type in GRIDS:
        node = makers.get(node.input[0])
        if node is not None and node.op_type == "DequantizeLinear":
            break  # one grid after another: what is between them makes the codes
    node = first if node is None or node.op_type == "DequantizeLinear" else node
    return "the input" if node is None else f"{node.op_type} {node.name}".strip()
