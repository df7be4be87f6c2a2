"""channels_last: images [N, C, H, W] become [N, H, W, C], as kernels read them, with one Transpose at each end.

    QLinearConv(x)                =>  com.microsoft.QLinearConv(x', channels_last=1); weights stay [C_out, C_in, K, K]
    QLinearGlobalAveragePool(x)   =>  the same, channels_last=1
    MaxPool(x)                    =>  com.microsoft.NhwcMaxPool(x')
    QLinearAdd | QLinearMul | …   =>  the same on x', constants with axes moved along
    Reshape(x [N, C, 1, 1])       =>  Reshape(x'), whose order is the same
    others                        =>  the same on Transpose(x')

ONNX Runtime lays images out so by itself, but puts Transposes around operators that it does not know. x' is called
after x: `relu.codes.nhwc`. A Gather of channels (widen_stem) stays in front of the Transpose: channels-last it takes
40 times as long, 1.2 ms of EfficientNet-B0's 10.8 on one thread.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import constant, make
from lsq_export.graph.operators import CONTRIB
from lsq_export.graph.read import array_of, attribute

SUFFIX = ".nhwc"
TO_LAST, TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
POINTWISE = ("QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearLeakyRelu", "Clip", "Min", "Max")
RENAMED = {"QLinearConv": "QLinearConv", "MaxPool": "NhwcMaxPool"}  # what they are called in com.microsoft


def channels_last(graph: ir.Graph) -> None:
    """In a qoperator graph whose nodes are in order of evaluation."""
    _Layout(graph).run()


class _Layout:
    """Which values are channels-last already, and the Transposes that were made, one a value."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._last: set[ir.Value] = set()
        self._moved: dict[ir.Value, ir.Value] = {}

    def run(self) -> None:
        for node in list(self._graph):
            if _takes_last(node) and any(_is_image(x) for x in node.inputs) and not self._is_in_front(node):
                self._convert(node)
            elif not _keeps_order(node):
                for index, x in enumerate(node.inputs):
                    if x in self._last:
                        node.replace_input_with(index, self._other(x, TO_FIRST))
        for index, output in enumerate(self._graph.outputs):
            if output in self._last:
                self._graph.outputs[index] = self._other(output, TO_FIRST)

    def _is_in_front(self, node: ir.Node) -> bool:
        """Whether it works in any layout, and nothing that it reads is channels-last yet."""
        return node.op_type in POINTWISE and not any(x in self._last for x in node.inputs)

    def _convert(self, node: ir.Node) -> None:
        for index, x in enumerate(node.inputs):
            if x is not None and _has_layout(node, x) and not _is_weight(node, index) and x not in self._last:
                node.replace_input_with(index, self._other(x, TO_LAST))
        node.attributes.pop("storage_order", None)  # of MaxPool, about a second output
        if node.op_type in RENAMED:
            node.op_type, node.domain = RENAMED[node.op_type], CONTRIB
        if node.op_type in ("QLinearConv", "QLinearGlobalAveragePool", "QLinearAveragePool"):
            node.attributes["channels_last"] = ir.AttrInt64("channels_last", 1)
        if node.op_type == "QLinearConcat":
            node.attributes["axis"] = ir.AttrInt64("axis", TO_LAST.index(attribute(node, "axis", 0) % 4))
        output = node.outputs[0]
        known = output.shape if output.shape is not None else [None] * 4
        output.shape = ir.Shape([known[axis] for axis in TO_LAST])
        if node.op_type == "QLinearGlobalAveragePool":
            output.shape = ir.Shape([known[0], 1, 1, known[1]])
        output.name = f"{output.name}{SUFFIX}"
        self._last.add(output)

    def _other(self, value: ir.Value, order: Sequence[int]) -> ir.Value:
        """The value in the other layout."""
        if value not in self._moved:
            array, shape = array_of(value), value.shape
            assert shape is not None and value.name is not None
            name = f"{value.name}{SUFFIX}" if order is TO_LAST else value.name.removesuffix(SUFFIX)
            if array is not None:
                of_four = array.reshape([1] * (4 - array.ndim) + list(array.shape))
                self._moved[value] = constant(self._graph, name, of_four.transpose(order))
            else:
                self._moved[value] = self._transposed(value, name, order)
        return self._moved[value]

    def _transposed(self, value: ir.Value, name: str, order: Sequence[int]) -> ir.Value:
        assert value.shape is not None
        node = make("Transpose", [value], name, shape=[value.shape[axis] for axis in order], perm=list(order))
        assert value.dtype is not None
        node.outputs[0].dtype = value.dtype
        producer = value.producer()
        if producer is not None:
            self._graph.insert_after(producer, node)
        else:
            self._graph.insert_before(self._graph[0], node)
        return node.outputs[0]


def _is_image(value: ir.Value | None) -> bool:
    return value is not None and value.shape is not None and len(value.shape) == 4


def _has_layout(node: ir.Node, x: ir.Value) -> bool:
    """Images, and constants that meet them axis by axis: [C, 1, 1]."""
    if _is_image(x):
        return True
    array = array_of(x)
    return node.op_type in POINTWISE and array is not None and array.size > 1 and array.ndim <= 4


def _is_weight(node: ir.Node, index: int) -> bool:
    return node.op_type == "QLinearConv" and index > 0


def _takes_last(node: ir.Node) -> bool:
    if node.op_type == "MaxPool":
        return node.domain == "" and len(node.outputs) == 1 and not attribute(node, "storage_order", 0)
    known = ("QLinearConv", "QLinearGlobalAveragePool", "QLinearAveragePool", "QLinearConcat", *POINTWISE)
    return node.op_type in known and all(_fits(node, x) for x in node.inputs)


def _fits(node: ir.Node, x: ir.Value | None) -> bool:
    """Images, what meets them axis by axis, and constants of one element, which have no layout."""
    if x is None or _has_layout(node, x):
        return True
    array = array_of(x)
    return array is not None and (array.size == 1 or node.op_type == "QLinearConv")


def _keeps_order(node: ir.Node) -> bool:
    """Whether it reads the elements in the same order in both layouts: a Reshape of one pixel."""
    x = node.inputs[0] if node.inputs else None
    if node.op_type not in ("Reshape", "Flatten") or not _is_image(x):
        return False
    assert x is not None and x.shape is not None
    return x.shape[1] == x.shape[2] == 1  # height and width, of channels-last


def from_last(name: str, value: np.ndarray) -> tuple[str, np.ndarray]:
    """(name, tensor) of channels-last files as the qoperator file has them."""
    if name.endswith(SUFFIX) and value.ndim == 4:
        return name.removesuffix(SUFFIX), value.transpose(TO_FIRST)
    return name, value
