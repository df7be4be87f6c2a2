"""sequences: sequences [N, C, L] become images of one row, [N, C, 1, L], which integer kernels and other passes know.

    Conv(x [N, C, L])                      =>  Squeeze(Conv(Unsqueeze(x)))       kernel [k] => [1, k], and the like
    MaxPool, AveragePool, BatchNormalization, GlobalAveragePool, Resize of [N, C, L]     the same
    f(Squeeze(x)), f(Squeeze(x), y)        =>  Squeeze(f(x)), …                  f: element by element, or a grid
    Unsqueeze(Squeeze(x))                  =>  x

Exact: elements are only named otherwise. A Squeeze moves on until an operator needs the sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import clean, constant, make, replace
from lsq_export.graph.operators import OPERATORS, Kind
from lsq_export.graph.read import array_of, attribute, is_marker, rank_of
from lsq_export.rewrite.contract.passes import Keeps, Pass, stateless

ROW = 2  # the axis that is put in
WINDOWED = ("Conv", "MaxPool", "AveragePool")
IN_IMAGES = (*WINDOWED, "BatchNormalization", "GlobalAveragePool")
WHOLE_AXES = ("LayerNormalization", "LogSoftmax", "Softmax")  # islands that do not compute element by element
REWRITTEN = ("Abs", "Dropout", "HardSigmoid", "HardSwish", "Identity", "Max", "Min", "Neg", "Sub", "Tanh")
ELEMENTWISE = {row.name for row in OPERATORS.values() if row.pointwise or row.kind is Kind.ISLAND}
ELEMENTWISE = ELEMENTWISE.difference(WHOLE_AXES).union(REWRITTEN)


def sequences_to_images(model: ir.Model) -> None:
    _Lift(model.graph).run()
    clean(model)


class _Lift:
    """images: of each value that is a sequence, the same as an image."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._images: dict[ir.Value, ir.Value] = {}

    def run(self) -> None:
        for node in list(self._graph):
            if len(node.outputs) != 1 or not (is_marker(node) or node.domain == ""):
                continue
            if node.op_type in (*IN_IMAGES, "Resize") and rank_of(node.inputs[0]) == 3 and _is_constant(node):
                self._convert(node, 1)
            elif node.op_type == "Unsqueeze" and node.inputs[0] in self._images and _puts_a_row(node):
                replace(node.outputs[0], self._images[node.inputs[0]])
            elif self._is_elementwise(node) and any(x in self._images for x in node.inputs):
                self._convert(node, len(node.inputs))

    def _is_elementwise(self, node: ir.Node) -> bool:
        if is_marker(node):
            return rank_of(node.inputs[0]) == 3
        concat = node.op_type == "Concat" and attribute(node, "axis") in (1, -2)
        ranks = [rank_of(x) for x in node.inputs if array_of(x) is None]
        return (concat or node.op_type in ELEMENTWISE) and set(ranks) == {3}

    def _convert(self, node: ir.Node, operands: int) -> None:
        """The node in images, with a Squeeze behind it. operands: so many inputs are sequences or meet them."""
        inputs = [self._image(node, x) if i < operands else x for i, x in enumerate(node.inputs)]
        y = node.outputs[0]
        shape = list(y.shape) if y.shape is not None else [None] * 3
        made = make(node.op_type, inputs, f"{y.name}_row", domain=node.domain, shape=_with_row(shape, 1))
        made.name = node.name
        made.attributes.update(node.attributes)
        made.metadata_props.update(node.metadata_props)
        made.outputs[0].type = y.type
        if node.op_type in WINDOWED:
            _widen(self._graph, made)
        if node.op_type == "Resize":
            _resize(self._graph, made)
        if node.op_type == "Concat":
            made.attributes["axis"] = ir.AttrInt64("axis", 1)
        axes = constant(self._graph, f"{y.name}.row", np.array([ROW]))
        back = make("Squeeze", [made.outputs[0], axes], f"{y.name}_sequence", shape=shape)
        self._graph.insert_before(node, [made, back])
        replace(y, back.outputs[0])
        self._images[back.outputs[0]] = made.outputs[0]

    def _image(self, node: ir.Node, x: ir.Value | None) -> ir.Value | None:
        """x [N, C, L] as [N, C, 1, L]; of a constant that meets it, the constant that meets that."""
        if x is None or x in self._images:
            return self._images[x] if x is not None else None
        array = array_of(x)
        if array is not None:
            return x if array.ndim < 2 else constant(self._graph, f"{x.name}.row", np.expand_dims(array, -2))
        axes = constant(self._graph, f"{x.name}.row", np.array([ROW]))
        shape = _with_row(list(x.shape) if x.shape is not None else [None] * 3, 1)
        unsqueeze = make("Unsqueeze", [x, axes], f"{x.name}_row", shape=shape)
        self._graph.insert_before(node, unsqueeze)
        self._images[x] = unsqueeze.outputs[0]
        return unsqueeze.outputs[0]


def _is_constant(node: ir.Node) -> bool:
    """Of a Resize: scales or sizes are numbers, of all axes."""
    given = [array_of(x) for x in node.inputs[1:] if x is not None]
    fixed = attribute(node, "axes") is None and all(a is not None and a.size in (0, 3) for a in given)
    return fixed or node.op_type != "Resize"


def _resize(graph: ir.Graph, node: ir.Node) -> None:
    """The scale, or the size, of a row is 1."""
    for index, given in enumerate(node.inputs[1:], 1):
        array = array_of(given)
        if given is not None and array is not None and array.size and index > 1:
            node.replace_input_with(index, constant(graph, f"{given.name}.row", np.insert(array, ROW, 1)))
    if node.inputs[1] is not None:
        node.replace_input_with(1, None)  # the region of interest, which no mode of ours reads


def _puts_a_row(unsqueeze: ir.Node) -> bool:
    axes = array_of(unsqueeze.inputs[1])
    return axes is not None and axes.reshape(-1).tolist() in ([ROW], [ROW - 4])


def _with_row(values: Sequence[object], one: int) -> list[object]:
    return [*values[:ROW], one, *values[ROW:]]


WIDER: dict[str, Callable[[Sequence[int]], list[int]]] = {
    "kernel_shape": lambda v: [1, *v],
    "strides": lambda v: [1, *v],
    "dilations": lambda v: [1, *v],
    "pads": lambda v: [0, v[0], 0, v[1]],
}


def _widen(graph: ir.Graph, node: ir.Node) -> None:
    """Windows get a height of one, and weights as well."""
    for name, wider in WIDER.items():
        if attribute(node, name) is not None:
            node.attributes[name] = ir.AttrInt64s(name, wider(attribute(node, name)))
    if node.op_type != "Conv":
        return
    weight = node.inputs[1]
    marker = weight.producer() if weight is not None else None
    raw = array_of(marker.inputs[0] if marker is not None and is_marker(marker) else weight)
    if weight is None or raw is None or raw.ndim != 3:
        return  # a weight that is computed is refused later, by name
    wide = constant(graph, f"{weight.name}.row", np.expand_dims(raw, ROW))
    if marker is not None:
        inputs = [wide, *marker.inputs[1:]]
        copied = make(marker.op_type, inputs, f"{weight.name}_row", domain=marker.domain, shape=wide.shape)
        copied.attributes.update(marker.attributes)
        graph.insert_after(marker, copied)
        wide = copied.outputs[0]
    node.replace_input_with(1, wide)


PASS = Pass("sequences", stateless(sequences_to_images), Keeps.VALUES)
