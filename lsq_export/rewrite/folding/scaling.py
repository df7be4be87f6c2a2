"""scaling: a multiplication by one positive constant only relabels a grid.

    Mul(DequantizeLinear(c; S, Z), α)    =>  DequantizeLinear(c; α·S, Z)
    FakeQuantize(Mul(x, α); s, β)        =>  Mul(FakeQuantize(x; s/α, β/α), α)          (edges only: learned grids stay where they are)

Exact, but for the float32 rounding of α·S, which the folded model has too. No operator is left.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from lsq_export.graph.build import array_of, attribute, constant, constant_of, insert, is_op, make, replace

FACTOR = (
    "factor"  # metadata of a DequantizeLinear: its scale is that of the QuantizeLinear that made the codes, times this
)


def factor_of(node: ir.Node | None) -> float | None:
    """α of x · α with one positive constant; None for anything else."""
    found = scalar_operand(node) if is_op(node, "Mul") else None
    return found[1] if found is not None and found[1] > 0 else None


def scalar_operand(node: ir.Node | None) -> tuple[ir.Value, float] | None:
    """(x, c) of an operator of one computed value and one finite constant number."""
    if node is None or len(node.inputs) != 2:
        return None
    arrays = [array_of(v) for v in node.inputs]
    for array, x in ((arrays[1], node.inputs[0]), (arrays[0], node.inputs[1])):
        rank = len(x.shape) if x is not None and x.shape is not None else 0
        if (
            array is not None
            and array_of(x) is None
            and x is not None
            and array.size == 1
            and array.ndim <= rank
            and np.isfinite(array).all()
        ):
            return x, float(array.reshape(()))
    return None


def hoist_edge(marker: ir.Node, mul: ir.Node) -> ir.Node:
    """FakeQuantize(Mul(x, α)) => Mul(FakeQuantize(x), α); returns the new marker."""
    found = scalar_operand(mul)
    assert found is not None and isinstance(mul.graph, ir.Graph)
    (x, factor), name = found, attribute(marker, "quantizer")
    scale, offset = (float(constant_of(v, name).reshape(())) / factor for v in marker.inputs[1:3])
    numbers = [
        constant(mul.graph, f"{name}.scaled_{what}", kind(v))
        for what, kind, v in (("s", np.float32, scale), ("b", np.float64, offset))
    ]
    hoisted = insert(mul, marker.op_type, [x, *numbers], f"{name}.before", domain=marker.domain, shape=x.shape)
    node = hoisted.producer()
    assert node is not None
    node.attributes.update(marker.attributes)
    operands = [hoisted if v is x else v for v in mul.inputs]
    moved = make("Mul", operands, f"{name}.Mul", shape=mul.outputs[0].shape)
    mul.graph.insert_before(mul, moved)
    replace(marker.outputs[0], moved.outputs[0])
    mul.graph.remove([marker, mul], safe=True)
    return node


def relabel(graph: ir.Graph, mul: ir.Node) -> None:
    """Mul(DequantizeLinear(c)) => DequantizeLinear(c) on the scaled grid."""
    found = scalar_operand(mul)
    source = found[0].producer() if found is not None else None
    assert found is not None and source is not None and is_op(source, "DequantizeLinear")
    codes, scale, zero_point = source.inputs[:3]
    factor = found[1] * float(source.metadata_props.get(FACTOR, 1.0))
    name = str(mul.outputs[0].name)
    scaled = constant(graph, f"{name}.scale", np.float32(float(constant_of(scale, name)) * found[1]))
    value = insert(mul, "DequantizeLinear", [codes, scaled, zero_point], f"{name}.values", shape=mul.outputs[0].shape)
    made = value.producer()
    assert made is not None
    made.metadata_props[FACTOR] = repr(factor)
    replace(mul.outputs[0], value)
    graph.remove(mul, safe=True)


def follow(graph: ir.Graph, scale: ir.Value) -> None:
    """A QuantizeLinear's scale has moved: so do the relabeled grids of its codes."""
    for node in graph:
        factor = node.metadata_props.get(FACTOR)
        if factor is None or not is_op(node, "DequantizeLinear"):
            continue
        quantize = node.inputs[0].producer() if node.inputs[0] is not None else None
        if quantize is not None and is_op(quantize, "Clip"):
            quantize = quantize.inputs[0].producer() if quantize.inputs[0] is not None else None
        if quantize is not None and quantize.inputs[1] is scale:
            old = node.inputs[1]
            assert old is not None
            new = constant(graph, str(old.name), np.float32(float(constant_of(scale, str(node.name))) * float(factor)))
            replace(old, new)  # also where an operator that keeps codes repeats the grid
            follow(graph, new)
