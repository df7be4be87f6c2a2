"""lookup: whatever is a function of one tensor of 8-bit codes is a table of 256 entries: one operator for a chain.

    QLinearMul(x, QLinearSigmoid(x)) -> QLinearAdd(…, zero) -> QLinearAdd(…, zero)  =>  lsq_export.Lookup0(x, table, …)
    DequantizeLinear(x) -> Gelu -> QuantizeLinear                                   =>  lsq_export.Lookup1(x, table)

`lsq_export.Lookup0` … `Lookup63` are functions of the file, one for each shape of chain: the stock operators that they
stand for, with scales and zero points as inputs. ONNX Runtime puts these in their place when it loads the file. With
our library it runs one kernel instead, for all of them, that reads the table alone (`lsq_export/kernels/`).
The table is what the integer reference computes for the 256 codes. Functions in float, which runtimes round each in
its own way, are Gather(table, x) there: no island is left of them, and the codes are the same everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import clean, constant, make
from lsq_export.graph.kept_float import stays_float
from lsq_export.graph.read import array_of
from lsq_export.integer.evaluate import apply
from lsq_export.kernels import DOMAIN, LOOKUPS

from .channels_last import channels_last
from .convolutions import convolution
from .dense import dense
from .joined import CODES, join
from .pairs import pair
from .qoperator import to_qoperator

UNARY = ("QLinearSigmoid", "QLinearLeakyRelu", "QLinearAdd", "QLinearMul", "Clip")
FLOAT = (
    *("Celu", "Cos", "Div", "Elu", "Erf", "Exp", "Gelu", "Log", "Mish", "PRelu", "Pow", "Reciprocal", "Selu", "Sin"),
    *("Softplus", "Softsign", "Sqrt"),
)
GRIDS = ("DequantizeLinear", "QuantizeLinear")


@dataclass(frozen=True)
class Chain:
    """A value that is a function of the codes of `root`. table [256]: codes or floats, by the bytes of the root's."""

    root: ir.Value
    table: np.ndarray


def to_lookup(folded: ir.Model) -> ir.Model:
    """A new model with integer operators, channels-last, with a Lookup for each chain of functions of single codes;
    products, sums and convolutions are joined with those behind them.
    """
    model = to_qoperator(folded, tiled=False)
    dense(model.graph)
    channels_last(model.graph)
    look_up(model)
    clean(model)  # of the operators that Lookups stand for
    join(model, (pair, convolution))
    clean(model)
    return model


def look_up(model: ir.Model) -> None:
    """In a qoperator graph whose nodes are in order of evaluation. Chains beyond LOOKUPS stay what they are."""
    graph = model.graph
    chains = _chains(graph)
    bodies: dict[object, ir.Function] = {}
    for value, chain in chains.items():
        readers = _readers_outside(value, chain, chains)
        if value.dtype in CODES and (readers or value.is_graph_output()):
            _insert(model, value, chain, readers, bodies)
    if bodies:
        graph.opset_imports[DOMAIN] = 1


def _chains(graph: ir.Graph) -> dict[ir.Value, Chain]:
    """{value: its chain}, in order of evaluation."""
    chains: dict[ir.Value, Chain] = {}
    for node in graph:
        chain = _chain(node, chains)
        if chain is not None:
            chains[node.outputs[0]] = chain
    return chains


def _chain(node: ir.Node, chains: Mapping[ir.Value, Chain]) -> Chain | None:
    if node.op_type not in (*UNARY, *FLOAT, *GRIDS) or stays_float(node):
        return None
    arrays: list[np.ndarray | None] = []
    roots: set[ir.Value] = set()
    for x in node.inputs:
        array = array_of(x)
        if x is None or (array is not None and array.size == 1):
            arrays.append(array)
        elif array is not None or (x not in chains and x.dtype not in CODES):
            return None
        else:
            chain = chains.get(x) or Chain(x, every_code(x))
            arrays.append(chain.table)
            roots.add(chain.root)
    if len(roots) != 1:
        return None
    return Chain(roots.pop(), apply(ir.to_proto(node), arrays))


def every_code(root: ir.Value) -> np.ndarray:
    """The 256 codes in the order of their bytes, [256], or [256, 1]: kernels look whether the last axis is 1."""
    codes = np.arange(256, dtype=np.uint8)
    last = root.shape[-1] if root.shape is not None and len(root.shape) else None
    return (codes.view(np.int8) if root.dtype == ir.DataType.INT8 else codes).reshape((-1, 1) if last == 1 else -1)


def _readers_outside(value: ir.Value, chain: Chain, chains: Mapping[ir.Value, Chain]) -> list[tuple[ir.Node, int]]:
    """What reads it and is no part of a longer chain of the same root to codes, which goes on from the stock operators.

    A chain that ends in float values has no Lookup.
    """

    def is_outside(node: ir.Node) -> bool:
        made = node.outputs[0]
        other = chains.get(made)
        if other is None or other.root is not chain.root:
            return True
        return made.dtype not in CODES and all(map(is_outside, made.consumers()))

    return [(node, index) for node, index in value.uses() if is_outside(node)]


def _insert(
    model: ir.Model,
    value: ir.Value,
    chain: Chain,
    readers: list[tuple[ir.Node, int]],
    bodies: dict[object, ir.Function],
) -> None:
    """A Lookup in the place of the chain that ends in the value, for these readers and for the outside."""
    graph = model.graph
    nodes = _between(value, chain.root)
    constants: dict[ir.Value, int] = {}
    in_float = any(node.op_type in FLOAT for node in nodes)
    key = (None if in_float else _key(nodes, chain.root, constants), chain.root.dtype, value.dtype)
    if key not in bodies:
        if len(bodies) == len(LOOKUPS):
            return
        name = LOOKUPS[len(bodies)]
        bodies[key] = _gather(name, chain.root) if in_float else _function(name, nodes, chain.root, list(constants))
        model.functions[bodies[key].identifier()] = bodies[key]
    assert value.name is not None and value.dtype is not None
    name, last = value.name, value.producer()
    assert last is not None
    table = constant(graph, f"{name}.table", _by_code(chain.table, chain.root.dtype))
    node = make(bodies[key].name, [chain.root, table, *constants], f"{name}.lookup", domain=DOMAIN, shape=value.shape)
    node.name = last.name
    node.outputs[0].dtype = value.dtype
    graph.insert_after(last, node)
    for reader, index in readers:
        reader.replace_input_with(index, node.outputs[0])
    for index, output in enumerate(graph.outputs):
        if output is value:
            graph.outputs[index] = node.outputs[0]
    value.name, node.outputs[0].name = f"{name}_unused", name


def _by_code(table: np.ndarray, dtype: ir.DataType | None) -> np.ndarray:
    """By bytes -> by codes: entry 0 is that of -128."""
    table = table.reshape(-1)
    return np.roll(table, 128) if dtype == ir.DataType.INT8 else table


def _between(value: ir.Value, root: ir.Value) -> list[ir.Node]:
    """The nodes of a chain, in order of evaluation."""
    found: dict[ir.Node, None] = {}

    def visit(current: ir.Value | None) -> None:
        producer = current.producer() if current is not None and current is not root else None
        if producer is None or producer in found or array_of(current) is not None:
            return
        for x in producer.inputs:
            visit(x)
        found[producer] = None

    visit(value)
    return list(found)


def _key(nodes: list[ir.Node], root: ir.Value, constants: dict[ir.Value, int]) -> object:
    """The shape of a chain: operators, attributes and wiring; its constants are numbered as they come."""
    made = {node.outputs[0]: index for index, node in enumerate(nodes)}

    def wire(x: ir.Value | None) -> object:
        if x is None:
            return None
        if x is root:
            return "codes"
        if x in made:
            return ("node", made[x])
        number = constants.setdefault(x, len(constants))
        return ("constant", number, x.dtype, tuple(x.shape.numpy()) if x.shape is not None else None)

    return tuple(
        (
            node.domain,
            node.op_type,
            tuple(sorted((name, str(a.value)) for name, a in node.attributes.items())),
            tuple(wire(x) for x in node.inputs),
        )
        for node in nodes
    )


def _function(name: str, nodes: list[ir.Node], root: ir.Value, constants: list[ir.Value]) -> ir.Function:
    """The chain as a function of (codes, table, constants …)."""
    inputs = [ir.val(x) for x in ("codes", "table", *(f"c{index}" for index in range(len(constants))))]
    values: dict[ir.Value | None, ir.Value | None] = {None: None, root: inputs[0]}
    values.update(zip(constants, inputs[2:], strict=True))
    body = []
    for index, node in enumerate(nodes):
        made = ir.val(f"v{index}")
        attributes = list(node.attributes.values())
        inner = ir.Node(node.domain, node.op_type, [values[x] for x in node.inputs], attributes, outputs=[made])
        body.append(inner)
        values[node.outputs[0]] = made
    return _of_nodes(name, inputs, body)


def _gather(name: str, root: ir.Value) -> ir.Function:
    """table[codes]; the first entry is that of the least code."""
    inputs = [ir.val("codes"), ir.val("table")]
    body = [ir.node("Cast", inputs[:1], {"to": ir.DataType.INT32})]
    if root.dtype == ir.DataType.INT8:
        least = ir.node("Constant", [], {"value": ir.tensor(np.int32(128))})
        body += [least, ir.node("Add", [body[0].outputs[0], least.outputs[0]])]
    body.append(ir.node("Gather", [inputs[1], body[-1].outputs[0]]))
    for index, node in enumerate(body):
        node.outputs[0].name = f"v{index}"
    return _of_nodes(name, inputs, body)


def _of_nodes(name: str, inputs: list[ir.Value], body: list[ir.Node]) -> ir.Function:
    graph = ir.Graph(inputs, [body[-1].outputs[0]], nodes=body, opset_imports={"": 17, "com.microsoft": 1})
    return ir.Function(DOMAIN, name, graph=graph, attributes=[])
