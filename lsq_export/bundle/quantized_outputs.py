"""Files whose outputs are codes: the last DequantizeLinear of each output is left out of what is written.

    output = DequantizeLinear(codes; S, Z)   =>   output = codes, and S and Z in the manifest:  value = S·(code - Z)

All else (the fold, what is verified, golden outputs as values) is as without it: where a file is read to be verified,
the DequantizeLinear is put back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from calib.errors import QuantizationError

KINDS: dict[int, str] = {TensorProto.UINT8: "uint8", TensorProto.INT8: "int8"}
KEY = "outputs"  # in the entry of a format in the manifest


@dataclass(frozen=True, kw_only=True)
class OutputGrid:
    """What codes mean: scale·(code - zero_point). type: of the codes.

    codes, names: of the tensor of codes; of the DequantizeLinear, its scale and its zero point, where it is there.
    """

    codes: str
    scale: float
    zero_point: int
    type: str
    names: tuple[str, str, str]

    def values(self, codes: np.ndarray) -> np.ndarray:
        """float32, as DequantizeLinear makes them."""
        return np.asarray((codes.astype(np.int32) - self.zero_point).astype(np.float32) * np.float32(self.scale))

    def of_values(self, values: np.ndarray) -> np.ndarray:
        """The codes whose values these are."""
        limits = np.iinfo(self.type)
        codes = np.rint(values.astype(np.float64) / self.scale) + self.zero_point
        return np.asarray(codes.clip(limits.min, limits.max).astype(self.type))


def grids_of(entry: Mapping[str, Any]) -> dict[str, OutputGrid]:
    """{output: its grid}, of the entry of a format in the manifest; none where outputs are values."""
    return {name: OutputGrid(**{**grid, "names": tuple(grid["names"])}) for name, grid in entry.get(KEY, {}).items()}


def in_manifest(grids: Mapping[str, OutputGrid]) -> dict[str, Any]:
    """For the entry of a format."""
    return {KEY: {name: asdict(grid) for name, grid in grids.items()}} if grids else {}


def output_grids(file: onnx.ModelProto) -> dict[str, OutputGrid]:
    """{output: its grid} of a file whose outputs are values.

    Errors (QuantizationError): an output that has no 8-bit grid, with what makes it.
    """
    constants = {tensor.name: tensor for tensor in file.graph.initializer}
    makers = {name: node for node in file.graph.node for name in node.output}
    return {value.name: _grid(value.name, makers.get(value.name), constants) for value in file.graph.output}


def _grid(name: str, node: onnx.NodeProto | None, constants: Mapping[str, TensorProto]) -> OutputGrid:
    is_last = node is not None and node.op_type == "DequantizeLinear" and len(node.input) == 3
    zero = constants.get(node.input[2]) if is_last and node is not None else None
    if node is None or zero is None or zero.data_type not in KINDS or node.input[1] not in constants:
        made = f"made by {node.op_type}" if node is not None else "an input"
        raise QuantizationError(f"output {name} is {made} and has no grid of 8 bits: export without quantized outputs")
    scale = numpy_helper.to_array(constants[node.input[1]])
    if scale.size != 1:
        raise QuantizationError(f"output {name} has a scale for each channel: export without quantized outputs")
    return OutputGrid(
        codes=node.input[0],
        scale=float(scale),
        zero_point=int(numpy_helper.to_array(zero)),
        type=KINDS[zero.data_type],
        names=(node.name, node.input[1], node.input[2]),
    )


def without_last(file: onnx.ModelProto, grids: Mapping[str, OutputGrid]) -> onnx.ModelProto:
    """The file with codes as outputs, under the names that the outputs have. Its own is not changed."""
    written = onnx.ModelProto()
    written.CopyFrom(file)
    graph = written.graph
    names = {grid.codes: name for name, grid in grids.items()}
    kept = [node for node in graph.node if not {*node.output} & {*grids}]
    for node in kept:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    del graph.node[:]
    graph.node.extend(kept)
    for value in graph.output:
        if value.name in grids:
            value.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(grids[value.name].type))
    known = [value for value in graph.value_info if value.name not in names]
    del graph.value_info[:]
    graph.value_info.extend(known)
    used = {name for node in kept for name in node.input}
    constants = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(constants)
    return written


def with_last(file: onnx.ModelProto, grids: Mapping[str, OutputGrid]) -> onnx.ModelProto:
    """The file with values as outputs again."""
    if not grids:
        return file
    whole = onnx.ModelProto()
    whole.CopyFrom(file)
    graph = whole.graph
    names = {name: grid.codes for name, grid in grids.items()}
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    known = {tensor.name for tensor in graph.initializer}
    for name, grid in grids.items():
        arrays = (np.array(grid.scale, np.float32), np.array(grid.zero_point, grid.type))
        for constant, array in zip(grid.names[1:], arrays, strict=True):
            if constant not in known:
                graph.initializer.append(numpy_helper.from_array(array, constant))
        inputs = [grid.codes, *grid.names[1:]]
        graph.node.append(helper.make_node("DequantizeLinear", inputs, [name], grid.names[0]))
    for value in graph.output:
        if value.name in grids:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    return whole
