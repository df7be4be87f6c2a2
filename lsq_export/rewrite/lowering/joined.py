"""joined: an operator of several inputs, and the table behind it, become one operator of our library.

    QLinearMul(a, b) -> Lookup3(…)   =>  lsq_export.Product0(a, b, table, constants of the first, of the second …)
    QLinearAdd(a, b)                 =>  lsq_export.Sum0(a, b, table that changes nothing, constants …)

`Product0` … are functions of the file, as those of lookup.py: stock operators, and with our library one kernel, which
leaves no codes in between. What is joined is found by pairs.py and convolutions.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import constant, make
from lsq_export.kernels import DOMAIN, LOOKUPS

CODES = (ir.DataType.UINT8, ir.DataType.INT8)
BEFORE = -1


@dataclass(frozen=True)
class Head:
    """A stock operator as the first part of one of ours.

    names: of ours. codes: its inputs that are computed. constants: what follows the table. inputs: those of the stock
    operator, as places in (codes, constants). before: stock operators in front that are a part of it, too, with their
    inputs; BEFORE is what the one before it makes.
    """

    node: ir.Node
    names: Sequence[str]
    codes: Sequence[ir.Value]
    constants: Sequence[ir.Value]
    inputs: Sequence[int]
    before: Sequence[tuple[ir.Node, Sequence[int]]] = ()

    @property
    def steps(self) -> list[tuple[ir.Node, Sequence[int]]]:
        """The stock operators with their inputs, in order of evaluation."""
        return [*self.before, (self.node, self.inputs)]


def join(model: ir.Model, finders: Sequence[Callable[[ir.Node], Head | None]]) -> None:
    """In a channels-last graph whose chains are Lookups. What is beyond the names of operators stays what it is."""
    graph = model.graph
    bodies: dict[object, str] = {}
    used: Counter[Sequence[str]] = Counter()
    for node in list(graph):
        head = next((found for found in (find(node) for find in finders) if found is not None), None)
        if head is None:
            continue
        lookup = _only_lookup(node.outputs[0])
        behind = None if lookup is None else model.functions[lookup.op_identifier()]
        key = _key(head, behind, (lookup or node).outputs[0])
        if key not in bodies:
            if used[head.names] == len(head.names):
                continue
            bodies[key] = head.names[used[head.names]]
            used[head.names] += 1
            function = _function(bodies[key], head, behind)
            model.functions[function.identifier()] = function
        _insert(graph, bodies[key], head, lookup)
    if bodies:
        graph.opset_imports[DOMAIN] = 1
        called = {node.op_identifier() for node in graph}
        for identifier in [name for name in model.functions if name not in called]:
            del model.functions[identifier]


def _key(head: Head, behind: ir.Function | None, output: ir.Value) -> object:
    """What decides the function: the operator, its attributes and wiring, what is behind it, and the types."""
    steps = tuple(
        (node.op_type, tuple(sorted((name, str(a.value)) for name, a in node.attributes.items())), tuple(inputs))
        for node, inputs in head.steps
    )
    types = tuple(x.dtype for x in (*head.codes, *head.constants, head.node.outputs[0], output))
    return steps, behind and behind.name, types


def _only_lookup(value: ir.Value) -> ir.Node | None:
    """The Lookup that is all that reads the value."""
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output():
        return None
    reader = uses[0].node
    return reader if reader.domain == DOMAIN and reader.op_type in LOOKUPS and uses[0].idx == 0 else None


def _function(name: str, head: Head, behind: ir.Function | None) -> ir.Function:
    """The stock operators, as a function of (codes, table, constants, constants of the Lookup …)."""
    more = [] if behind is None else list(behind.inputs)[2:]
    codes = [ir.val(f"codes{index}") for index in range(len(head.codes))]
    table = ir.val("table")
    constants = [ir.val(f"c{index}") for index in range(len(head.constants) + len(more))]
    known_inputs = [*codes, *constants]
    nodes: list[ir.Node] = []
    for number, (node, places) in enumerate(head.steps):
        inputs = [nodes[-1].outputs[0] if place == BEFORE else known_inputs[place] for place in places]
        outputs = [ir.val(f"first{number}")]
        nodes.append(ir.Node(node.domain, node.op_type, inputs, list(node.attributes.values()), outputs=outputs))
    first = nodes[-1].outputs[0]
    if behind is not None:
        known: dict[ir.Value | None, ir.Value | None] = {None: None, behind.inputs[0]: first, behind.inputs[1]: table}
        known.update(zip(more, constants[len(head.constants) :], strict=True))
        for inner in behind:
            known[inner.outputs[0]] = ir.val(str(inner.outputs[0].name))
            nodes.append(_copy(inner, known))
    opsets = {"": 17, "com.microsoft": 1}
    body = ir.Graph([*codes, table, *constants], [nodes[-1].outputs[0]], nodes=nodes, opset_imports=opsets)
    return ir.Function(DOMAIN, name, graph=body, attributes=[])


def _copy(node: ir.Node, known: Mapping[ir.Value | None, ir.Value | None]) -> ir.Node:
    output = known[node.outputs[0]]
    assert output is not None
    attributes = list(node.attributes.values())
    return ir.Node(node.domain, node.op_type, [known[x] for x in node.inputs], attributes, outputs=[output])


def _insert(graph: ir.Graph, name: str, head: Head, lookup: ir.Node | None) -> None:
    """The operator in the place of the stock one, and of the Lookup behind it."""
    last = lookup or head.node
    output = last.outputs[0]
    table, more = (lookup.inputs[1], list(lookup.inputs)[2:]) if lookup is not None else (_same(graph, output), [])
    label = str(output.name)
    inputs = [*head.codes, table, *head.constants, *more]
    node = make(name, inputs, f"{label}.joined", domain=DOMAIN, shape=output.shape)
    node.name = head.node.name
    made = node.outputs[0]
    made.dtype = output.dtype  # type: ignore[assignment]  # codes have one
    graph.insert_after(last, node)
    for reader, index in list(output.uses()):
        reader.replace_input_with(index, made)
    for index, value in enumerate(graph.outputs):
        if value is output:
            graph.outputs[index] = made
    graph.remove([last] if lookup is None else [last, head.node], safe=True)
    output.name, made.name = f"{label}_unused", label


def _same(graph: ir.Graph, output: ir.Value) -> ir.Value:
    """The table that changes nothing."""
    assert output.dtype is not None
    name = f"same.{output.dtype.name.lower()}.table"
    known = graph.initializers.get(name)
    if known is not None:
        return known
    lowest = -128 if output.dtype == ir.DataType.INT8 else 0
    return constant(graph, name, np.arange(lowest, lowest + 256).astype(output.dtype.numpy()))
