"""pairs: products and sums of two tensors of 8-bit codes, each with the table behind it, are one operator.

    QLinearMul(a, b) -> Lookup3(…)   =>  lsq_export.Product0(a, b, table, scales and zero points, …)
    QLinearAdd(a, b)                 =>  lsq_export.Sum0(a, b, table that changes nothing, scales …)

`Product0` … and `Sum0` … are functions of the file, as those of lookup.py: stock operators, and with our library one
kernel, which repeats the codes of a gate [N, 1, 1, C] for all pixels, and leaves no codes in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import constant, make
from lsq_export.graph.read import array_of
from lsq_export.kernels import DOMAIN, LOOKUPS, PRODUCTS, SUMS

CODES = (ir.DataType.UINT8, ir.DataType.INT8)
NAMES = {"QLinearMul": PRODUCTS, "QLinearAdd": SUMS}
GRID = ((1, 2), (4, 5), (6, 7))  # inputs of both: scale and zero point of the first, the second and the result


@dataclass(frozen=True)
class Pair:
    """A product or a sum. sides: the places of its operands among the inputs, that of all pixels first."""

    node: ir.Node
    sides: tuple[int, int]

    @property
    def operands(self) -> list[ir.Value | None]:
        return [self.node.inputs[side] for side in self.sides]

    @property
    def numbers(self) -> list[ir.Value | None]:
        """The scales and zero points, those of the operands in their order."""
        places = [side + more for side in self.sides for more in (1, 2)] + list(GRID[2])
        return [self.node.inputs[place] for place in places]


def join_pairs(model: ir.Model) -> None:
    """In a channels-last graph whose chains are Lookups. Pairs beyond the names of operators stay what they are."""
    graph = model.graph
    bodies: dict[object, ir.Function] = {}
    used = dict.fromkeys(NAMES, 0)
    for node in list(graph):
        pair = _pair(node)
        if pair is None:
            continue
        lookup = _only_lookup(node.outputs[0])
        behind = None if lookup is None else model.functions[lookup.op_identifier()]
        last = lookup or node
        key = (node.op_type, behind and behind.name, node.outputs[0].dtype, last.outputs[0].dtype)
        if key not in bodies:
            if used[node.op_type] == len(NAMES[node.op_type]):
                continue
            name = NAMES[node.op_type][used[node.op_type]]
            used[node.op_type] += 1
            bodies[key] = _function(name, node, behind)
            model.functions[bodies[key].identifier()] = bodies[key]
        _insert(graph, bodies[key].name, pair, lookup)
    if bodies:
        graph.opset_imports[DOMAIN] = 1
        called = {node.op_identifier() for node in graph}
        for identifier in [name for name in model.functions if name not in called]:
            del model.functions[identifier]


def _pair(node: ir.Node) -> Pair | None:
    if node.op_type not in NAMES or len(node.inputs) != 8:
        return None
    a, b = node.inputs[0], node.inputs[3]
    if any(x is None or array_of(x) is not None or x.dtype not in CODES or x.shape is None for x in (a, b)):
        return None
    pair = Pair(node, (0, 3))
    if any(array is None or array.size != 1 for array in map(array_of, pair.numbers)):
        return None
    assert a is not None and b is not None
    if _is_same_shape(a, b):
        return pair
    if node.op_type == "QLinearAdd":
        return None
    return pair if _is_gate(b, a) else Pair(node, (3, 0)) if _is_gate(a, b) else None


def _is_same_shape(a: ir.Value, b: ir.Value) -> bool:
    """Equal, but for the batch. With one channel ONNX Runtime swaps the operands, which are not alike in sums."""
    first, second = _known(a), _known(b)
    return first == second and bool(first) and None not in first and first[0] != 1


def _known(x: ir.Value) -> list[int | None]:
    """The sizes of all axes but the first, in reverse order."""
    assert x.shape is not None
    return [size if isinstance(size, int) else None for size in list(x.shape)[:0:-1]]


def _is_gate(gate: ir.Value, image: ir.Value) -> bool:
    """[N, 1, …, 1, C] beside [N, …, C]."""
    first, second = _known(gate), _known(image)
    if len(first) != len(second) or len(first) < 2 or None in second:
        return False
    return first[0] == second[0] and all(size == 1 for size in first[1:])


def _only_lookup(value: ir.Value) -> ir.Node | None:
    """The Lookup that is all that reads the value."""
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output():
        return None
    reader = uses[0].node
    return reader if reader.domain == DOMAIN and reader.op_type in LOOKUPS and uses[0].idx == 0 else None


def _function(name: str, node: ir.Node, behind: ir.Function | None) -> ir.Function:
    """The stock operators, as a function of (a, b, table, six numbers, constants of the Lookup …)."""
    more = [] if behind is None else list(behind.inputs)[2:]
    a, b, table, *numbers = (ir.val(x) for x in ("a", "b", "table", *(f"n{index}" for index in range(6 + len(more)))))
    pair = ir.val("pair")
    inputs = [a, *numbers[:2], b, *numbers[2:6]]
    nodes = [ir.Node(node.domain, node.op_type, inputs, list(node.attributes.values()), outputs=[pair])]
    if behind is not None:
        known: dict[ir.Value | None, ir.Value | None] = {None: None, behind.inputs[0]: pair, behind.inputs[1]: table}
        known.update(zip(more, numbers[6:], strict=True))
        for inner in behind:
            known[inner.outputs[0]] = ir.val(str(inner.outputs[0].name))
            nodes.append(_copy(inner, known))
    body = ir.Graph(
        [a, b, table, *numbers],
        [nodes[-1].outputs[0]],
        nodes=nodes,
        opset_imports={"": 17, "com.microsoft": 1},
    )
    return ir.Function(DOMAIN, name, graph=body, attributes=[])


def _copy(node: ir.Node, known: Mapping[ir.Value | None, ir.Value | None]) -> ir.Node:
    output = known[node.outputs[0]]
    assert output is not None
    attributes = list(node.attributes.values())
    return ir.Node(node.domain, node.op_type, [known[x] for x in node.inputs], attributes, outputs=[output])


def _insert(graph: ir.Graph, name: str, pair: Pair, lookup: ir.Node | None) -> None:
    """The operator in the place of the pair, and of the Lookup behind it."""
    last = lookup or pair.node
    output = last.outputs[0]
    table, more = (lookup.inputs[1], list(lookup.inputs)[2:]) if lookup is not None else (_same(graph, output), [])
    inputs = [*pair.operands, table, *pair.numbers, *more]
    node = make(name, inputs, f"{output.name}.pair", domain=DOMAIN, shape=output.shape)
    node.name = last.name
    made = node.outputs[0]
    made.dtype = output.dtype  # type: ignore[assignment]  # codes have one
    graph.insert_after(last, node)
    for reader, index in list(output.uses()):
        reader.replace_input_with(index, made)
    for index, value in enumerate(graph.outputs):
        if value is output:
            graph.outputs[index] = made
    label = str(output.name)
    graph.remove([last] if lookup is None else [last, pair.node], safe=True)
    output.name, made.name = f"{label}_unused", label


def _same(graph: ir.Graph, output: ir.Value) -> ir.Value:
    """The table that changes nothing."""
    assert output.dtype is not None
    name = f"same.{output.dtype.name.lower()}.table"
    lowest = -128 if output.dtype == ir.DataType.INT8 else 0
    known = graph.initializers.get(name)
    codes = np.arange(lowest, lowest + 256).astype(output.dtype.numpy())
    return known if known is not None else constant(graph, name, codes)
