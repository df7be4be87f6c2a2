"""QONNX: a Quant node for each grid. Its zero point may be a fraction, and is -β/s, so that β stays what was trained:

    FakeQuantize(x; s, β, n, p)  ->  Quant(x; s, -β/s, bits)
    s·clamp(round(x/s - β/s), n, p) + β      the same, but for the order of two float operations

Weights are floats on their grid, with a Quant of their own.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from calib.errors import QuantizationError

from .trained_file import (
    Grid,
    activation_grid,
    biases_of,
    constants_of,
    is_marker,
    ranks_of,
    replace_nodes,
    weight_grid,
)

DOMAIN = "qonnx.custom_op.general"


def qonnx_file(trained: onnx.ModelProto, bits: Mapping[str, int]) -> onnx.ModelProto:
    """trained: reference/trained.onnx. bits: {layer: of its weight}.

    Errors (QuantizationError): a grid that no width describes.
    """
    file = onnx.ModelProto()
    file.CopyFrom(trained)
    constants, ranks, biases = constants_of(file), ranks_of(file), {*biases_of(file)}
    nodes: list[onnx.NodeProto] = []
    for node in file.graph.node:
        if is_marker(node):
            nodes.append(_quant(file, activation_grid(node, constants, ranks), node.input[0]))
            continue
        grid = (
            None
            if node.op_type == "DequantizeLinear" and node.input[0] in biases
            else weight_grid(node, constants, bits)
        )
        if grid is None:
            nodes.append(node)
            continue
        values = constants[node.input[0]].astype(np.float32) * grid.scale.astype(np.float32)
        name = f"{node.output[0]}.float"
        file.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
        nodes.append(_quant(file, grid, name))
    replace_nodes(file, nodes)
    file.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return file


def _quant(file: onnx.ModelProto, grid: Grid, x: str) -> onnx.NodeProto:
    """The node, with its constants. Errors (QuantizationError): limits that are not those of a width."""
    width, is_signed = grid.bits, grid.low < 0
    whole = (-(2 ** (width - 1)), 2 ** (width - 1) - 1) if is_signed else (0, 2**width - 1)
    narrow = (whole[0] + is_signed, whole[1] - (not is_signed))
    if (grid.low, grid.high) not in (whole, narrow):
        raise QuantizationError(f"{grid.name} has codes {grid.low} … {grid.high}, which no Quant of QONNX has")
    output = grid.node.output[0]
    zero = -grid.offset.astype(np.float64) / grid.scale.astype(np.float64)
    arrays = {"scale": grid.scale, "zeropt": zero, "bitwidth": np.array(width)}
    for name, array in arrays.items():
        file.graph.initializer.append(numpy_helper.from_array(np.asarray(array, np.float32), f"{output}.{name}"))
    return helper.make_node(
        "Quant",
        [x, *(f"{output}.{name}" for name in arrays)],
        [output],
        f"{grid.name}.Quant",
        domain=DOMAIN,
        signed=int(is_signed),
        narrow=int((grid.low, grid.high) != whole),
        rounding_mode="ROUND",
    )
