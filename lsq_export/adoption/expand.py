"""QOperator files: every operator on codes becomes the float operator between the grids that it names.

QLinearConv(x, s, z, W, …, s', z', b)   =>  QuantizeLinear(Conv(DequantizeLinear(x), DequantizeLinear(W), b'); s', z')
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import constant, insert, replace
from lsq_export.graph.read import array_of, maker_of

from .grids import DEQUANTIZE, QUANTIZE

UNARY = {
    "QLinearSigmoid": "Sigmoid",
    "QLinearLeakyRelu": "LeakyRelu",
    "QLinearSoftmax": "Softmax",
    "QLinearAveragePool": "AveragePool",
    "QLinearGlobalAveragePool": "GlobalAveragePool",
    "QLinearReduceMean": "ReduceMean",
}
BINARY = {"QLinearAdd": "Add", "QLinearMul": "Mul", "QLinearMatMul": "MatMul"}
Inputs = Sequence["ir.Value | None"]


def expand_operators(graph: ir.Graph) -> None:
    """Those of ONNX and of com.microsoft."""
    for node in list(graph):
        expand = EXPANDED.get(node.op_type)
        if expand is not None:
            expand(graph, node)


def _values(node: ir.Node, operand: Inputs, axis: int = 1) -> ir.Value:
    """operand: codes, scale, zero point."""
    x, *grid = operand
    assert x is not None
    inputs = [x, *(v for v in grid if v is not None)]
    name = f"{node.name}.{x.name}_values"
    return insert(node, DEQUANTIZE, inputs, name, shape=x.shape, axis=axis)


def _put_back(node: ir.Node, op_type: str, inputs: Inputs, grid: Inputs) -> None:
    y = node.outputs[0]
    attributes = {key: a for key, a in node.attributes.items() if key not in ("channels_last",)}
    made = insert(node, op_type, inputs, f"{y.name}_float", shape=y.shape)
    maker_of(made).attributes.update(attributes)
    maker_of(made).name = node.name
    codes = insert(node, QUANTIZE, [made, *(v for v in grid if v is not None)], f"{y.name}_codes", shape=y.shape)
    codes.type = y.type
    replace(y, codes)


def _unary(graph: ir.Graph, node: ir.Node) -> None:
    _put_back(node, UNARY[node.op_type], [_values(node, node.inputs[:3])], node.inputs[3:5])


def _binary(graph: ir.Graph, node: ir.Node) -> None:
    a, b = node.inputs[:3], node.inputs[3:6]
    last = -1 if node.op_type == "QLinearMatMul" else 1
    _put_back(node, BINARY[node.op_type], [_values(node, a), _values(node, b, axis=last)], node.inputs[6:8])


def _conv(graph: ir.Graph, node: ir.Node) -> None:
    x, weight = node.inputs[:3], node.inputs[3:6]
    inputs = [_values(node, x), _values(node, weight, axis=0)]
    inputs += _bias(graph, node, node.inputs[8] if len(node.inputs) > 8 else None, x[1], weight[1])
    _put_back(node, "Conv", inputs, node.inputs[6:8])


def _gemm(graph: ir.Graph, node: ir.Node) -> None:
    a, b = node.inputs[:3], node.inputs[3:6]
    axis = 0 if "transB" in node.attributes and node.attributes["transB"].as_int() else 1
    inputs = [_values(node, a), _values(node, b, axis=axis), *_bias(graph, node, node.inputs[6], a[1], b[1])]
    grid = node.inputs[7:9]
    if grid:
        _put_back(node, "Gemm", inputs, grid)
        return
    y = insert(node, "Gemm", inputs, f"{node.outputs[0].name}_float", shape=node.outputs[0].shape)  # a float output
    maker_of(y).attributes.update(node.attributes)
    maker_of(y).name = node.name
    replace(node.outputs[0], y)


def _bias(graph: ir.Graph, node: ir.Node, bias: ir.Value | None, *scales: ir.Value | None) -> list[ir.Value]:
    """int32 codes in units of the product of both scales."""
    codes, (a, b) = array_of(bias), (array_of(v) for v in scales)
    if codes is None or a is None or b is None:
        return []
    values = codes.astype(np.float64) * (a.astype(np.float64) * b.astype(np.float64)).reshape(-1)
    return [constant(graph, f"{node.name}.bias", values.astype(np.float32))]


def _concat(graph: ir.Graph, node: ir.Node) -> None:
    parts = [node.inputs[index : index + 3] for index in range(2, len(node.inputs), 3)]
    _put_back(node, "Concat", [_values(node, part) for part in parts], node.inputs[:2])


EXPANDED: dict[str, Callable[[ir.Graph, ir.Node], None]] = {
    **dict.fromkeys(UNARY, _unary),
    **dict.fromkeys(BINARY, _binary),
    "QLinearConv": _conv,
    "QGemm": _gemm,
    "QLinearConcat": _concat,
}
