"""QOperator files: every operator on codes becomes the float operator between the grids that it names.

QLinearConv(x, s, z, W, …, s', z', b)   =>  QuantizeLinear(Conv(DequantizeLinear(x), DequantizeLinear(W), b'); s', z')

ONNX Runtime's optimizer writes operators with the channels last (channels_last = 1): their codes are turned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from calib.errors import QuantizationError
from lsq_export.graph.edit import constant, insert, replace
from lsq_export.graph.read import array_of, attribute, maker_of, producer_of

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
CHANNELS_LAST = "channels_last"


def expand_operators(graph: ir.Graph) -> None:
    """Those of ONNX and of com.microsoft."""
    for node in list(graph):
        expand = EXPANDED.get(node.op_type)
        if expand is not None:
            expand(graph, node)
    _drop_turns(graph)


def _drop_turns(graph: ir.Graph) -> None:
    """Transpose(Transpose(x)) => x, where the second one undoes the first."""
    for node in [node for node in graph if node.op_type == "Transpose" and not node.outputs[0].is_graph_output()]:
        maker = producer_of(node.inputs[0])
        if maker is None or maker.op_type != "Transpose" or maker.inputs[0] is None:
            continue
        first, then = (list(attribute(turn, "perm", ())) for turn in (maker, node))
        if first and [first[axis] for axis in then] == sorted(first):
            node.outputs[0].replace_all_uses_with(maker.inputs[0])


def _values(node: ir.Node, operand: Inputs, axis: int = 1) -> ir.Value:
    """operand: codes, scale, zero point."""
    x, *grid = operand
    assert x is not None
    inputs = [x, *(v for v in grid if v is not None)]
    name = f"{node.name}.{x.name}_values"
    return insert(node, DEQUANTIZE, inputs, name, shape=x.shape, axis=axis)


def _put_back(node: ir.Node, op_type: str, inputs: Inputs, grid: Inputs) -> None:
    y = node.outputs[0]
    attributes = {key: a for key, a in node.attributes.items() if key != CHANNELS_LAST}
    made = insert(node, op_type, inputs, f"{y.name}_float", shape=y.shape)
    maker_of(made).attributes.update(attributes)
    maker_of(made).name = node.name
    codes = insert(node, QUANTIZE, [made, *(v for v in grid if v is not None)], f"{y.name}_codes", shape=y.shape)
    codes.type = y.type
    if attribute(node, CHANNELS_LAST, 0):
        rank = _rank(node, y)
        codes = insert(node, "Transpose", [codes], f"{y.name}_turned", shape=y.shape, perm=[0, *range(2, rank), 1])
        codes.type = y.type
    replace(y, codes)


def _channels_first(node: ir.Node) -> ir.Value:
    """The codes that an operator reads, [N, C, …]."""
    x = node.inputs[0]
    assert x is not None
    if not attribute(node, CHANNELS_LAST, 0):
        return x
    rank = _rank(node, x)
    turned = insert(
        node, "Transpose", [x], f"{node.name}.{x.name}_turned", shape=None, perm=[0, rank - 1, *range(1, rank - 1)]
    )
    turned.type = x.type
    return turned


def _rank(node: ir.Node, value: ir.Value) -> int:
    """Of the tensor that an operator reads or makes. Errors (QuantizationError): nothing in the file says it."""
    kernel, weight = attribute(node, "kernel_shape"), node.inputs[3] if node.op_type == "QLinearConv" else None
    if weight is not None and weight.shape is not None:
        return len(weight.shape)
    source: ir.Value | None = node.inputs[0]
    while kernel is None and value.shape is None and source is not None:
        maker = producer_of(source)
        if source.shape is not None or maker is None or maker.op_type == "Transpose":
            value = source
            kernel = list(attribute(maker, "perm", ()))[2:] if maker is not None and value.shape is None else None
            break
        source = maker.inputs[0]
    if kernel is None and value.shape is None:
        raise QuantizationError(
            f"{node.name}: its channels are the last of unknown axes: give the file as it was before ONNX Runtime "
            "optimized it"
        )
    return len(kernel) + 2 if kernel is not None else len(value.shape)  # type: ignore[arg-type]


def _unary(graph: ir.Graph, node: ir.Node) -> None:
    values = _values(node, [_channels_first(node), *node.inputs[1:3]])
    _put_back(node, UNARY[node.op_type], [values], node.inputs[3:5])


def _binary(graph: ir.Graph, node: ir.Node) -> None:
    a, b = node.inputs[:3], node.inputs[3:6]
    last = -1 if node.op_type == "QLinearMatMul" else 1
    _put_back(node, BINARY[node.op_type], [_values(node, a), _values(node, b, axis=last)], node.inputs[6:8])


def _conv(graph: ir.Graph, node: ir.Node) -> None:
    x, weight = [_channels_first(node), *node.inputs[1:3]], node.inputs[3:6]
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
