"""Sums and Concats of large and small values, on a grid from calibration: a part of the pass edges.py.

    FakeQuantize(Add(a, b); edge) -> output, where b spans few steps of the edge    =>  Add(a, b) -> output, in float

The sum is after the last DequantizeLinear then (output_tails.py does the same for Concats), and b keeps all of its
codes. Where such a sum or Concat is not at an output, the small part is lost: a warning says so, with names and ranges.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from calib.errors import warn
from lsq_export.graph.grids import grid_of, is_merged, quantizer_of, scale_of
from lsq_export.graph.kept_float import TAIL, is_tail
from lsq_export.graph.layers import layer_of
from lsq_export.graph.notes import FLOAT
from lsq_export.graph.operators import CLAMPS, MOVES
from lsq_export.graph.read import array_of, input_of, is_marker, is_op, producer_of, single_consumer

from .output_tails import MOVES as TAIL_MOVES
from .output_tails import replace_output
from .scaling import factor_of, scalar_operand

FEW = 16  # steps of a sum's grid that a part may span and still stay float at an output
LOST = {"Add": 1.0, "Concat": 8.0}  # steps that are too few elsewhere: what a sum rounds away, 3 bits of a Concat


@dataclass(frozen=True)
class _Range:
    """What an operand can be, by its grid. name: of its quantizer, or of the constant."""

    name: str
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.name} ({self.low:.3g} … {self.high:.3g})"


def keep_small_addends(graph: ir.Graph, edges: list[ir.Node]) -> None:
    """edges: markers that have got their grids. Those of sums at outputs go, where a part of the sum needs it."""
    for edge in edges:
        value = edge.outputs[0]
        path = _to_sum(edge)
        if path is None or not all(map(is_tail, value.consumers())):
            continue
        ranges = [_range_of(x) for x in path[-1].inputs]
        if min((r.high - r.low for r in ranges if r is not None), default=np.inf) < FEW * scale_of(edge):
            for node in path:
                FLOAT.write(node, TAIL)
            for reader, index in list(value.uses()):
                reader.replace_input_with(index, edge.inputs[0])
            if value.is_graph_output():
                replace_output(graph, value, input_of(edge))


def _to_sum(edge: ir.Node) -> list[ir.Node] | None:
    """The nodes from an edge back to the sum that it rounds; None where something else is before it."""
    path: list[ir.Node] = []
    x = edge.inputs[0]
    while x is not None and single_consumer(x):
        node = x.producer()
        if node is None or not is_op(node, "Add", *TAIL_MOVES, *CLAMPS):
            return None
        path.append(node)
        if node.op_type == "Add":
            return path
        x = node.inputs[0]
    return None


def warn_of_lost_parts(edges: list[ir.Node]) -> None:
    """One QuantizationWarning for each sum or Concat that an edge rounds, and of which a part is lost."""
    for edge in edges:
        node = producer_of(edge.inputs[0])
        if node is None or not is_op(node, *LOST):
            continue
        ranges = [r for r in (_range_of(x) for x in node.inputs) if r is not None]
        for part in ranges:
            steps = (part.high - part.low) / scale_of(edge)
            if steps < LOST[node.op_type]:
                others = (r for r in ranges if r is not part)
                large = max(others, key=lambda r: r.high - r.low, default="a constant")
                warn(
                    f"{layer_of(node)}: {part} is lost in the one 8-bit grid of this {node.op_type} with {large}: it "
                    f"spans {steps:.2g} of its 255 steps; scale the parts alike, or give them layers of their own",
                )


def _range_of(value: ir.Value | None) -> _Range | None:
    """None where it is not known, and of constant numbers, of which nothing can be lost."""
    node = producer_of(value)
    if node is None:
        return None
    if is_marker(node):
        if len(node.inputs) < 3 or is_merged(node):
            return None
        grid = grid_of(node)
        return _Range(quantizer_of(node), float(grid.values(grid.qmin)), float(grid.values(grid.qmax)))
    if is_op(node, "DequantizeLinear"):
        codes, scale, zero = (array_of(v) for v in node.inputs[:3])
        if codes is None or scale is None or zero is None or (codes == codes.flat[0]).all():
            return None
        values = (codes.astype(np.float64) - zero) * scale
        return _Range(layer_of(node), float(values.min()), float(values.max()))
    if factor_of(node) is not None:
        operand = scalar_operand(node)
        assert operand is not None
        inner = _range_of(operand[0])
        return None if inner is None else _Range(inner.name, inner.low * operand[1], inner.high * operand[1])
    return _range_of(node.inputs[0]) if is_op(node, *MOVES, *CLAMPS) else None
