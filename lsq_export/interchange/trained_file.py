"""reference/trained.onnx taken apart: a grid for each quantizer of activations and for each weight, in its own terms.

q = clamp(round((x - β)/s), n, p),  x̂ = s·q + β                    (E1)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from calib.errors import QuantizationError

MARKER, DOMAIN = "FakeQuantize", "lsq_export"


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Of one tensor. node: the marker or DequantizeLinear. scale, offset: [] or broadcast against the tensor.

    low, high: of codes. name: of the quantizer, or of the weight.
    """

    node: onnx.NodeProto
    name: str
    scale: np.ndarray
    offset: np.ndarray
    low: int
    high: int

    @property
    def bits(self) -> int:
        """The least number that holds the codes."""
        return int(self.high - self.low).bit_length()


def constants_of(file: onnx.ModelProto) -> dict[str, np.ndarray]:
    """{name: array}."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in file.graph.initializer}


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """{name: value}."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def is_marker(node: onnx.NodeProto) -> bool:
    """Whether a node is a quantizer of activations."""
    return bool(node.op_type == MARKER and node.domain == DOMAIN)


def activation_grid(node: onnx.NodeProto, constants: Mapping[str, np.ndarray], ranks: Mapping[str, int]) -> Grid:
    """Of a marker. ranks: {tensor: rank}. Errors (QuantizationError): grids along an axis of an unknown rank."""
    known = attributes_of(node)
    arrays, axis, name = (
        [constants[value] for value in node.input[1:3]],
        int(known["axis"]),
        known["quantizer"].decode(),
    )
    if any(array.size > 1 for array in arrays):
        if node.input[0] not in ranks:
            raise QuantizationError(f"{name} has a grid for each channel of a tensor whose shape is not known")
        shape = [1] * ranks[node.input[0]]
        shape[axis] = -1
        arrays = [array.reshape(shape) if array.size > 1 else array for array in arrays]
    scale, offset = arrays
    return Grid(node=node, name=name, scale=scale, offset=offset, low=int(known["qmin"]), high=int(known["qmax"]))


def weight_grid(node: onnx.NodeProto, constants: Mapping[str, np.ndarray], bits: Mapping[str, int]) -> Grid | None:
    """Of a DequantizeLinear of constant codes; None: of something else. bits: {layer: of its weight}."""
    if node.op_type != "DequantizeLinear" or node.input[0] not in constants:
        return None
    codes, scale = constants[node.input[0]], constants[node.input[1]]
    name = node.output[0].removesuffix(".values").removesuffix(".weight")
    least = max(int(codes.max(initial=0)) + 1, -int(codes.min(initial=0)), 2)
    width = bits.get(name, (least - 1).bit_length() + 1)
    shape = [1] * codes.ndim
    shape[int(attributes_of(node).get("axis", 1))] = -1
    low = -(2 ** (width - 1))
    values = scale.reshape(shape) if scale.size > 1 else scale.reshape(())
    return Grid(node=node, name=name, scale=values, offset=np.zeros_like(values), low=low, high=-low - 1)


def ranks_of(file: onnx.ModelProto) -> dict[str, int]:
    """{tensor: rank}, as far as it is known."""
    values = (*file.graph.input, *file.graph.value_info, *file.graph.output)
    return {value.name: len(value.type.tensor_type.shape.dim) for value in values}


def biases_of(file: onnx.ModelProto) -> Iterator[str]:
    """Codes of 32 bits, which stay a DequantizeLinear."""
    return (tensor.name for tensor in file.graph.initializer if tensor.data_type == onnx.TensorProto.INT32)


def replace_nodes(file: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    """The graph has these nodes now, the constants that they read, and no operators of our own."""
    del file.graph.node[:]
    file.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input} | {output.name for output in file.graph.output}
    kept = [tensor for tensor in file.graph.initializer if tensor.name in used]
    del file.graph.initializer[:]
    file.graph.initializer.extend(kept)
    opsets = [opset for opset in file.opset_import if opset.domain != "lsq_export"]
    del file.opset_import[:]
    file.opset_import.extend(opsets)
