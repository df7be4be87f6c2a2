"""What is read of an edge: functions of it alone, up to where something else than such a function reads.

    edge  ->  h(x) = x·clip(x + 3, 0, 6)/6  ->  learned grid -3 … 7  ->  Conv        read is clip(h(x), -3, 7)

A hard swish makes 0 of all that is below -3, and a learned grid cuts off what lies beyond its ends: a grid of the edge
that is fine where h is, and spends no code on what nobody tells apart, has the least error in what is read. Its error
in x itself is larger. Other edges on the way, which are to come, are left out of account. Learned grids of fewer bits
tell far less apart than any edge; before these, a coarser edge leaves finer biases (`unspread`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import torch

from calib.grid import FloatArray
from lsq_export.graph.evaluate import outputs_of, results_of
from lsq_export.graph.grids import grid_of, is_edge, is_merged
from lsq_export.graph.operators import MOVES, OPERATORS
from lsq_export.graph.read import array_of, attribute, data_readers, graph_of, is_marker, is_op

EVERYWHERE = (-np.inf, np.inf)
EIGHT = 8  # bits
Ends = Mapping[ir.Value, "tuple[float, float]"]
FUNCTIONS = (  # of one number, besides what the table calls pointwise
    *("Celu", "Div", "Elu", "Erf", "Exp", "Gelu", "Log", "Mish", "PRelu", "Pow", "Reciprocal", "Selu", "Softplus"),
    *("Softsign", "Sqrt", "Tanh"),
    *(row.name for row in OPERATORS.values() if row.pointwise),
)


@dataclass(frozen=True)
class ReadAs:
    """root: the edge. nodes: functions of it alone, in order. ends: {what others read: (low, high), which learned grids
    cut it off at}.
    """

    root: ir.Value
    nodes: tuple[ir.Node, ...]
    ends: Ends

    def __call__(self, x: FloatArray) -> list[FloatArray]:
        """What is read, in as many ways as there are, where the edge has the values x, of any shape."""
        known = {self.root: torch.from_numpy(np.asarray(x, np.float64))}
        for node in self.nodes:
            known[node.outputs[0]] = self._made(node, known)
        return [known[value].clamp(low, high).expand(np.shape(x)).numpy() for value, (low, high) in self.ends.items()]

    def _made(self, node: ir.Node, known: Mapping[ir.Value, torch.Tensor]) -> torch.Tensor:
        if is_marker(node) or is_op(node, *MOVES):
            return next(known[value] for value in node.inputs if value is not None and value in known)
        inputs = [None if v is None else known[v] if v in known else _number(v) for v in node.inputs]
        return outputs_of(node, inputs)[0]


def read_as(edge: ir.Node) -> ReadAs | None:
    """None where it is read as it is, or a multiple of it, or by a grid of fewer than 8 bits."""
    root = edge.outputs[0]
    inside, nodes = {root}, list[ir.Node]()
    for node in graph_of(edge):
        if node is not edge and _is_function(node, inside):
            inside.update(node.outputs)
            nodes.append(node)
    if all(_is_linear(node, inside) for node in nodes):
        return None
    others = {v: _others(v, inside) for v in (root, *(node.outputs[0] for node in nodes))}
    if any(is_marker(node) and attribute(node, "bits") < EIGHT for readers in others.values() for node in readers):
        return None
    ends = {v: _cut_off_at(v, readers) for v, readers in others.items() if readers or v.is_graph_output()}
    return ReadAs(root, tuple(nodes), ends) if ends else None


def _is_linear(node: ir.Node, inside: set[ir.Value]) -> bool:
    """A number times what it reads, and a number: the grid that is best for the one is best for the other."""
    return is_marker(node) or is_op(node, *MOVES) or (is_op(node, "Add", "Mul") and not inside.issuperset(node.inputs))


def _is_function(node: ir.Node, inside: set[ir.Value]) -> bool:
    """Of what is inside and of numbers, to which each element goes by itself."""
    if is_marker(node):
        return is_edge(node) and node.inputs[0] in inside
    if is_op(node, *MOVES):
        return node.inputs[0] in inside
    others = [value for value in node.inputs if value is not None and value not in inside]
    return (
        is_op(node, *FUNCTIONS)
        and any(value in inside for value in node.inputs)
        and all(_number(value) is not None for value in others)
    )


def _number(value: ir.Value) -> torch.Tensor | None:
    """A constant of one element, which may lie on a grid."""
    array, node = array_of(value), value.producer()
    if array is not None:
        return torch.tensor(float(array.reshape(())), dtype=torch.float64) if array.size == 1 else None
    if node is None or not is_op(node, "DequantizeLinear") or any(v and array_of(v) is None for v in node.inputs):
        return None
    (number,) = results_of(node)
    return number.double().reshape(()) if number.numel() == 1 else None


def _others(value: ir.Value, inside: set[ir.Value]) -> list[ir.Node]:
    """Readers that are no such functions."""
    return [node for node in data_readers(value) if not inside.issuperset(node.outputs)]


def _cut_off_at(value: ir.Value, readers: list[ir.Node]) -> tuple[float, float]:
    """The ends of the learned grids that read it, if nobody else does."""
    if value.is_graph_output() or not all(is_marker(node) and not is_merged(node) for node in readers):
        return EVERYWHERE
    grids = [grid_of(node) for node in readers]
    lows, highs = zip(*((float(grid.values(grid.qmin)), float(grid.values(grid.qmax))) for grid in grids), strict=True)
    return min(lows), max(highs)
