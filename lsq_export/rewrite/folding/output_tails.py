"""output_tails: what is put together at the network's outputs stays float there, so that each part keeps its own grid.

    Concat(a, b) -> output              =>  a and b get grids of their own; the Concat is one of float values
    Add(x, c) -> output                 =>  the constant c stays what it is, one number for each place
    Reshape(Gemm(x)) -> output          =>  float as well, as a Gemm that is an output itself
    Reshape | Transpose | Slice | … | Relu | Clip | Add, Mul with constants, after these  =>  float as well
    Clip(Concat(a, b)) -> output        =>  Concat(Clip(a), Clip(b)), so that the parts' grids end at the bounds

On one grid for all parts, small ones are lost beside large ones: scores of 0 … 1 beside boxes of 0 … 640 would have the
codes 0 and 1 of 256, and anchors of 0 … 640 would be rounded by more than what is added to them. All of it is after the
last DequantizeLinear, and exact. Others who read the Concat keep one of integers. Operators that this file does not
name end the search for a Concat.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from lsq_export.graph.edit import clean, insert_after, make, replace
from lsq_export.graph.kept_float import TAIL, is_tail
from lsq_export.graph.notes import FLOAT
from lsq_export.graph.operators import CLAMPS
from lsq_export.graph.read import array_of, is_op, maker_of, single_consumer
from lsq_export.rewrite.contract.passes import Keeps, Pass, stateless

from .constants import constant_operand

MOVES = ("Flatten", "Gather", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
Clamps = tuple[ir.Node, ...]  # that are still to be done on a value, in this order


def keep_parts_apart(model: ir.Model) -> None:
    for output in list(model.graph.outputs):
        if _has_parts(output):
            replace_output(model.graph, output, _in_float(output, ()))
    clean(model)


def _has_parts(value: ir.Value | None) -> bool:
    """Whether something is put together there that has to stay float."""
    node = value.producer() if value is not None else None
    if node is None:
        return False
    operand = constant_operand(node)
    if operand is not None:
        return (node.op_type == "Add" and operand[1].size > 1) or _has_parts(operand[0])
    if is_op(node, *MOVES) and _is_linear(node.inputs[0]):
        return True
    return is_op(node, "Concat") or (is_op(node, *MOVES, *CLAMPS) and _has_parts(node.inputs[0]))


def _is_linear(value: ir.Value | None) -> bool:
    """A Gemm, whose accumulator can be an output, and that nobody else reads."""
    node = value.producer() if value is not None else None
    return node is not None and node.op_type == "Gemm" and single_consumer(node.outputs[0])


def moves_only(node: ir.Node | None) -> bool:
    """An operator of a tail that moves elements, after which they are those of one tensor still."""
    return is_tail(node) and node is not None and node.op_type in MOVES


def _in_float(value: ir.Value, clamps: Clamps) -> ir.Value:
    """The value, put together in float, after these clamps."""
    node = value.producer()
    if node is None or not _has_parts(value):
        return _clamped(value, clamps)
    if is_op(node, *CLAMPS):
        return _in_float(_given(node, 0), (node, *clamps))
    if constant_operand(node) is not None:
        operands = [v if v is None or array_of(v) is not None else _in_float(v, ()) for v in node.inputs]
        made = copied(node, operands)
        for clamp in clamps:
            made = copied(clamp, [made, *clamp.inputs[1:]], made.shape)
        return made
    count = len(node.inputs) if is_op(node, "Concat") else 1
    parts = [_in_float(_given(node, index), clamps) for index in range(count)]
    return copied(node, [*parts, *node.inputs[count:]])


def _given(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    assert value is not None
    return value


def _clamped(value: ir.Value, clamps: Clamps) -> ir.Value:
    """A part of a Concat, clamped before it gets its grid."""
    for clamp in clamps:
        graph, name = clamp.graph, f"{value.name}_clamped"
        assert isinstance(graph, ir.Graph)
        value = insert_after(value, graph, clamp.op_type, [value, *clamp.inputs[1:]], name)
        maker_of(value).name = f"{clamp.name}.part"
    return value


def copied(node: ir.Node, inputs: Sequence[ir.Value | None], shape: ir.Shape | None = None) -> ir.Value:
    """What a node makes of other inputs, after the last DequantizeLinear."""
    shape = node.outputs[0].shape if shape is None else shape
    twin = make(node.op_type, inputs, f"{node.outputs[0].name}_apart", shape=shape)
    twin.attributes.update(node.attributes)
    twin.name = f"{node.name}.apart"
    FLOAT.write(twin, TAIL)
    assert isinstance(node.graph, ir.Graph)
    node.graph.insert_after(node, twin)
    return twin.outputs[0]


def replace_output(graph: ir.Graph, old: ir.Value, new: ir.Value) -> None:
    """The outside reads `new`, under the name that it knows; other readers of `old` go on to read it."""
    if not old.uses():
        replace(old, new)
        return
    name, old.name = old.name, f"{old.name}_inside"
    for index, output in enumerate(graph.outputs):
        if output is old:
            graph.outputs[index] = new
    new.name = name


PASS = Pass("output_tails", stateless(keep_parts_apart), Keeps.VALUES)
