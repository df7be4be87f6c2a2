"""ties: sums move a hair, so that float32 kernels round them as real arithmetic does.

    QuantizeLinear(Add(x, y); S)              =>  QuantizeLinear(Add(x, y); S')              S' - S: millionths of S
    QuantizeLinear(Concat | Mul | …; S)       =>  the same with S'                           (tie_values.py)
    QuantizeLinear(MatMul(x, y); S)           =>  the same with S'                           (exact_product_scale)
    QuantizeLinear(Add(x, constant -β); s)    =>  QuantizeLinear(Add(x, constant -β'); s)    β' - β: millionths of s

The change is one of parameters, made before anything is derived from them; the folded model has it too. The search for
the nearest scales and shifts that are clear of ties: calib/rounding/ties.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace as with_changes

import numpy as np
import onnx_ir as ir

from calib.rounding.ties import clear_scale, clear_shift, clear_sum_scale, exact_product_scale
from lsq_export.graph.edit import clean, constant, replace
from lsq_export.graph.grids import grid_of_codes
from lsq_export.graph.islands import is_island
from lsq_export.graph.notes import FACTOR, OPERAND
from lsq_export.graph.operators import MOVES
from lsq_export.graph.read import array_of, input_of, is_op, producer_of
from lsq_export.rewrite.contract.conditions import NO_MARKERS
from lsq_export.rewrite.contract.decisions import TensorDecision
from lsq_export.rewrite.contract.passes import Keeps, Pass, State

from .scaling import follow
from .softmax import is_reciprocal, reciprocal_scale
from .tie_tables import changes_of
from .tie_values import VALUES, addend

SUMS = ("Add", "MatMul", *VALUES)


def clear_ties(model: ir.Model, decisions: list[TensorDecision]) -> list[TensorDecision]:
    """Returns the decisions with the scales that were moved."""
    graph = model.graph
    moved: dict[str, float] = {}
    for quantize in [node for node in graph if is_op(node, "QuantizeLinear")]:
        node = producer_of(quantize.inputs[0])
        if node is not None and is_op(node, *MOVES):
            continue  # its scale is that of the grid before it
        shift = _shift_of(node)
        if node is not None and shift is not None:
            _move_shift(graph, node, shift, quantize)
        elif (is_op(node, *SUMS) and not is_island(node)) or _readers(quantize):
            moved[_codes_name(quantize)] = _move_scale(graph, node, quantize)
    clean(model)
    return [_moved(d, moved[d.codes]) if d.codes in moved else d for d in decisions]


def _shift_of(node: ir.Node | None) -> ir.Node | None:
    """The constant -β of a sum that stands for an offset; None of other nodes, and of sums with a constant operand."""
    shift = producer_of(node.inputs[1]) if node is not None and is_op(node, "Add") else None
    return shift if shift is not None and array_of(shift.inputs[0]) is not None and not OPERAND.on(shift) else None


def _moved(decision: TensorDecision, scale: float) -> TensorDecision:
    offset = -scale * (decision.zero_point - decision.origin)
    return with_changes(decision, container_scale=scale, offset_carried=offset)


def _readers(quantize: ir.Node) -> list[float]:
    """Scales of the grids to which the codes are quantized again directly, in units of mine.

    Spreading (E5), which reads them with another zero point, has no ties.
    """
    own = grid_of_codes(quantize)
    scales = []
    for dequantize, factor in dequantized(quantize.outputs[0]):
        grid = grid_of_codes(dequantize)
        if factor == 1 and grid != own:
            continue
        for reader in dequantize.outputs[0].consumers():
            if is_op(reader, "QuantizeLinear") and grid_of_codes(reader) != grid:
                scales.append(grid_of_codes(reader)[0] / factor)
    return scales


def dequantized(codes: ir.Value) -> Iterator[tuple[ir.Node, float]]:
    """Every DequantizeLinear of these codes, also after operators that move them, and its factor (scaling.py)."""
    for node in codes.consumers():
        if is_op(node, "Clip"):
            yield from dequantized(node.outputs[0])
        elif is_op(node, "DequantizeLinear"):
            factor = FACTOR.get(node, 1.0)
            yield node, factor
            for mover in node.outputs[0].consumers():
                if is_op(mover, *MOVES):
                    for repeated in mover.outputs[0].consumers():
                        yield from ((n, factor * f) for n, f in dequantized(repeated.outputs[0]))


def _codes_name(quantize: ir.Node) -> str:
    """The tensor of codes that the graph hands on: after the clip of a narrowed edge, if there is one."""
    codes = quantize.outputs[0]
    (reader, *others) = codes.consumers()
    return str(reader.outputs[0].name if not others and is_op(reader, "Clip") else codes.name)


def _move_scale(graph: ir.Graph, node: ir.Node | None, quantize: ir.Node) -> float:
    """Returns the scale of the values: a Tanh's are twice its codes' (tanh.py)."""
    scale, zero_point = grid_of_codes(quantize)
    low, high, readers = -zero_point, 255 - zero_point, _readers(quantize)
    changes = changes_of([reader for reader, _ in dequantized(quantize.outputs[0])], scale)
    if is_op(node, "Softmax") and is_reciprocal(scale):
        moved = reciprocal_scale(scale, readers)
    elif node is None or not is_op(node, *SUMS) or is_island(node):
        moved = clear_scale(np.empty(0), scale, low, high, readers=readers, changes=changes)
    elif node.op_type == "Add":
        moved = clear_sum_scale(addend(node, 0), addend(node, 1), scale, low, high, readers=readers, changes=changes)
    elif node.op_type == "MatMul":
        moved = exact_product_scale(addend(node, 0).scale, addend(node, 1).scale, scale, low, high, readers=readers)
    else:
        values, margin = VALUES[node.op_type](node, scale)
        moved = clear_scale(values, scale, low, high, margin=margin, readers=readers, changes=changes)
    old = input_of(quantize, 1)
    if moved != scale:
        new = constant(graph, str(old.name), np.float32(moved))
        replace(old, new)  # QuantizeLinear and its DequantizeLinears share the scale
        follow(graph, new)
    return moved * FACTOR.get(quantize, 1.0)


def _move_shift(graph: ir.Graph, node: ir.Node, shift: ir.Node, quantize: ir.Node) -> None:
    scale, zero_point = grid_of_codes(quantize)
    moved = clear_shift(addend(node, 0), addend(node, 1), scale, -zero_point, 255 - zero_point)
    old = input_of(shift, 1)
    replace(old, constant(graph, str(old.name), np.float32(moved)))


def _run(model: ir.Model, state: State) -> None:
    state.tensors = clear_ties(model, state.tensors)


PASS = Pass("clear_ties", _run, Keeps.CODES, requires=(NO_MARKERS,))
