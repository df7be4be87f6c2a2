"""A multiplication by one positive constant only relabels a grid.

    Mul(DequantizeLinear(c; S, Z), α)    =>  DequantizeLinear(c; α·S, Z)
    FakeQuantize(Mul(x, α); s, β)        =>  Mul(FakeQuantize(x; s/α, β/α), α)      (edges; learned grids stay)

Exact, but for the float32 rounding of α·S, which the folded model has too. No operator is left. Part of the passes
clamps.py and offsets.py.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import constant, insert, make, replace
from lsq_export.graph.grids import quantizer_of
from lsq_export.graph.notes import FACTOR
from lsq_export.graph.read import array_of, constant_of, graph_of, is_op, maker_of, rank_of


def factor_of(node: ir.Node | None) -> float | None:
    """α of x · α with one positive constant; None for anything else."""
    operand = scalar_operand(node) if is_op(node, "Mul") else None
    return operand[1] if operand is not None and operand[1] > 0 else None


def scalar_operand(node: ir.Node | None) -> tuple[ir.Value, float] | None:
    """(x, c) of an operator of one computed value and one finite constant number."""
    if node is None or len(node.inputs) != 2:
        return None
    first, second = node.inputs
    for x, operand in ((first, second), (second, first)):
        array = array_of(operand)
        if x is None or array is None or array_of(x) is not None:
            continue
        if array.size == 1 and array.ndim <= rank_of(x) and np.isfinite(array).all():
            return x, float(array.reshape(()))
    return None


def hoist_edge(marker: ir.Node, mul: ir.Node) -> ir.Node:
    """FakeQuantize(Mul(x, α)) => Mul(FakeQuantize(x), α); returns the new marker."""
    operand = scalar_operand(mul)
    assert operand is not None
    (x, factor), name, graph = operand, quantizer_of(marker), graph_of(mul)
    scale, offset = (float(constant_of(v, name).reshape(())) / factor for v in marker.inputs[1:3])
    numbers = [
        constant(graph, f"{name}.scaled_s", np.float32(scale)),
        constant(graph, f"{name}.scaled_b", np.float64(offset)),
    ]
    hoisted = insert(mul, marker.op_type, [x, *numbers], f"{name}.before", domain=marker.domain, shape=x.shape)
    node = maker_of(hoisted)
    node.attributes.update(marker.attributes)
    operands = [hoisted if v is x else v for v in mul.inputs]
    moved = make("Mul", operands, f"{name}.Mul", shape=mul.outputs[0].shape)
    graph.insert_before(mul, moved)
    replace(marker.outputs[0], moved.outputs[0])
    graph.remove([marker, mul], safe=True)
    return node


def relabel(graph: ir.Graph, mul: ir.Node) -> None:
    """Mul(DequantizeLinear(c)) => DequantizeLinear(c) on the scaled grid."""
    operand = scalar_operand(mul)
    assert operand is not None
    x, factor = operand
    source = maker_of(x)
    assert is_op(source, "DequantizeLinear")
    codes, scale, zero_point = source.inputs[:3]
    name = str(mul.outputs[0].name)
    scaled = constant(graph, f"{name}.scale", np.float32(float(constant_of(scale, name)) * factor))
    value = insert(mul, "DequantizeLinear", [codes, scaled, zero_point], f"{name}.values", shape=mul.outputs[0].shape)
    FACTOR.write(maker_of(value), factor * FACTOR.get(source, 1.0))
    replace(mul.outputs[0], value)
    graph.remove(mul, safe=True)


def follow(graph: ir.Graph, scale: ir.Value) -> None:
    """A QuantizeLinear's scale has moved: so do the relabeled grids of its codes."""
    for node in [reader for quantize in scale.consumers() for reader in _relabeled(quantize, scale)]:
        old = node.inputs[1]
        assert old is not None
        moved = float(constant_of(scale, str(node.name))) * FACTOR.read(node)
        new = constant(graph, str(old.name), np.float32(moved))
        replace(old, new)  # also where an operator that moves codes repeats the grid
        follow(graph, new)


def _relabeled(quantize: ir.Node, scale: ir.Value) -> list[ir.Node]:
    """The DequantizeLinear with a factor that read the codes of a QuantizeLinear of this scale, clipped or not."""
    if len(quantize.inputs) < 2 or quantize.inputs[1] is not scale:
        return []
    readers = list(quantize.outputs[0].consumers())
    readers += [reader for clip in readers if is_op(clip, "Clip") for reader in clip.outputs[0].consumers()]
    return [node for node in readers if FACTOR.on(node) and is_op(node, "DequantizeLinear")]
