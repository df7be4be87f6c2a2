"""Changing an ONNX graph through onnx_ir: constants, nodes with readable names, replacing and removing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from .notes import SOURCE
from .operators import OPERATORS
from .read import graph_of


def constant(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    """A new initializer; the name gets a number if it is taken."""
    unique, number = name, 1
    while unique in graph.initializers:
        unique, number = f"{name}_{number}", number + 1
    value = ir.val(unique, const_value=ir.tensor(np.array(array, order="C"), name=unique), type=None)
    value.shape, value.type = ir.Shape(np.shape(array)), ir.TensorType(ir.DataType.from_numpy(array.dtype))
    graph.register_initializer(value)
    return value


def insert(
    before: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    output: str,
    *,
    domain: str = "",
    shape: Any = None,
    **attributes: Any,
) -> ir.Value:
    """A new node with one output, placed before another; returns the output."""
    node = make(op_type, inputs, output, domain=domain, shape=shape, **attributes)
    graph_of(before).insert_before(before, node)
    return node.outputs[0]


def insert_after(
    value: ir.Value,
    graph: ir.Graph,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    output: str,
    *,
    domain: str = "",
    **attributes: Any,
) -> ir.Value:
    """A new node with one output of the shape of `value`, placed right after the node that makes `value`.

    After an input of the graph: before all other nodes.
    """
    node = make(op_type, inputs, output, domain=domain, shape=value.shape, **attributes)
    producer = value.producer()
    if producer is not None:
        graph.insert_after(producer, node)
    elif len(graph):
        graph.insert_before(graph[0], node)
    else:
        graph.append(node)
    return node.outputs[0]


def make(
    op_type: str,
    inputs: Sequence[ir.Value | None],
    output: str,
    *,
    domain: str = "",
    shape: Any = None,
    **attributes: Any,
) -> ir.Node:
    """A node with one output, named after it, in no graph yet."""
    integer = {"QuantizeLinear": ir.DataType.UINT8, "MatMulInteger": ir.DataType.INT32}
    kind = integer.get(op_type) or (
        ir.DataType.UINT8 if op_type.startswith(("QLinear", "QGemm")) else _type_of(inputs, op_type)
    )
    value = ir.val(output, dtype=kind, shape=shape)
    return ir.node(op_type, inputs, attributes, domain=domain, outputs=[value], name=output)


def _type_of(inputs: Sequence[ir.Value | None], op_type: str) -> ir.DataType:
    """Operators that move codes keep the type of their first input; the rest are float."""
    first = inputs[0] if inputs else None
    keeps = op_type in OPERATORS and OPERATORS[op_type].keeps_type
    return first.dtype if keeps and first is not None and first.dtype is not None else ir.DataType.FLOAT


def replace(old: ir.Value, new: ir.Value) -> None:
    """All readers of `old` read `new`. The outside too: it keeps the name that it knows.

    What makes `new` comes from the line of the user's code that what made `old` comes from, unless that is known.
    """
    before, after = old.producer(), new.producer()
    if before is not None and after is not None and SOURCE.on(before) and not SOURCE.on(after):
        SOURCE.write(after, SOURCE.read(before))
    name = old.name if old.is_graph_output() else None
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    if name is not None:
        old.name, new.name = f"{name}_replaced", name


def remove(graph: ir.Graph, nodes: Iterable[ir.Node]) -> None:
    """Remove nodes that nobody reads any more."""
    graph.remove(list(nodes), safe=True)


def clean(model: ir.Model) -> None:
    """Drop unused nodes and initializers and give every value and node a unique name."""
    import onnx_ir.passes.common as passes

    ir.passes.Sequential(passes.RemoveUnusedNodesPass(), passes.TopologicalSortPass(), passes.NameFixPass())(model)


def copy(model: ir.Model) -> ir.Model:
    """An independent copy. Only the numbers of constants, which nobody writes to, are shared."""
    return model.clone()
