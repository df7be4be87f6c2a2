"""Operators that have no integer form, and layers that shall stay float, are float operators between grids, by name.

    Gelu(DequantizeLinear(x)) -> QuantizeLinear     stays as it is in `qoperator`; a row of them needs no grid between

Every input is a value of a grid, or the float input of the network, and every output is rounded to one, so that the
integers around an island stay exact. A layer that is kept float by the configuration (kept_float.py) also gives a float
output of the network: there is no grid at that end.

What an island computes depends on the runtime's float32 functions: the codes after it can differ by one where two of
them round a tie differently.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from calib.errors import QuantizationError

from .kept_float import is_tail, is_wished, of_shapes, stays_float
from .notes import FLOAT
from .operators import ISLANDS, MOVES, RECTIFIERS
from .read import array_of, data_readers, is_marker, is_op


@dataclass(frozen=True, kw_only=True)
class Island:
    """One operator that stays float.

    codes: the tensors of codes that are made from its output, directly or through other islands; the network's output
    where it stays float. wished: it has an integer form, but the configuration keeps it float. why: what else keeps it
    float.
    """

    name: str
    operator: str
    codes: tuple[str, ...]
    wished: bool = False
    why: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.operator}{', kept float' if self.wished else ''})"


def is_island(node: ir.Node | None) -> bool:
    return is_op(node, *ISLANDS) or stays_float(node)


def inside_island(value: ir.Value) -> bool:
    """Made by an island, or the network's input, and read by islands only: it stays float."""
    readers = data_readers(value)
    made_in_float = value.producer() is None or is_island(value.producer())
    return made_in_float and not value.is_graph_output() and bool(readers) and all(map(is_island, readers))


def is_rectifier(node: ir.Node) -> bool:
    """A function in float, flat below zero, whose values go onto grids, perhaps moved or times a constant."""
    return node.op_type in RECTIFIERS and is_island(node) and _only_onto_grids(node.outputs[0])


def _only_onto_grids(value: ir.Value) -> bool:
    readers = data_readers(value)
    return not value.is_graph_output() and bool(readers) and all(map(_leads_onto_grids, readers))


def _leads_onto_grids(reader: ir.Node) -> bool:
    if is_marker(reader):
        return True
    scaled = reader.op_type == "Mul" and array_of(reader.inputs[1]) is not None
    return (scaled or reader.op_type in MOVES) and _only_onto_grids(reader.outputs[0])


def has_rounding(value: ir.Value) -> bool:
    """Whether an island made the value, or a part of it, so that its last bits depend on the machine."""
    node = value.producer()
    if is_tail(node):
        assert node is not None
        return any(has_rounding(x) for x in node.inputs if x is not None)
    return is_island(node)


def float_outputs(graph: ir.Graph) -> set[str]:
    """Names of the network's outputs that islands make."""
    return {str(output.name) for output in graph.outputs if has_rounding(output)}


def islands(graph: ir.Graph) -> tuple[Island, ...]:
    """Of a folded graph."""
    after: dict[ir.Node, tuple[str, ...]] = {}
    place = {node: index for index, node in enumerate(graph)}
    for node in reversed(graph):
        if is_island(node):
            after[node] = _codes_after(node, after, place)
    return tuple(
        Island(
            name=str(node.name),
            operator=node.op_type,
            codes=codes,
            wished=is_wished(node),
            why="" if is_wished(node) else FLOAT.get(node, ""),
        )
        for node, codes in reversed(after.items())
        if not (_keeps_apart(node) or of_shapes(node) or is_tail(node))
    )


def _keeps_apart(node: ir.Node) -> bool:
    """The sum of one value after a layer kept float (rewrite/folding/keep_float.py)."""
    return is_op(node, "Sum") and len(node.inputs) == 1


def _codes_after(
    node: ir.Node, after: Mapping[ir.Node, tuple[str, ...]], place: Mapping[ir.Node, int]
) -> tuple[str, ...]:
    """In the order of the graph. after: that of the islands that read it. place: of each node in the graph."""
    found = [str(value.name) for value in node.outputs if value.is_graph_output()]
    for reader in sorted({reader for value in node.outputs for reader in value.consumers()}, key=place.__getitem__):
        if is_op(reader, "QuantizeLinear"):
            found.append(str(reader.outputs[0].name))
            found += [str(n.outputs[0].name) for n in reader.outputs[0].consumers() if is_op(n, "Clip")]
        else:
            found += after.get(reader, ())
    return tuple(dict.fromkeys(found))


def refuse(found: tuple[Island, ...]) -> None:
    """strict_integer: an island is an error that names them."""
    if found:
        causes = {False: "no integer form", True: "kept float by the settings of single layers"}
        named = [
            (why, [f"{i.name} ({i.operator})" for i in found if i.wished == wished]) for wished, why in causes.items()
        ]
        said = "; ".join(f"{', '.join(names)}: {why}" for why, names in named if names)
        raise QuantizationError(f"{said}; strict_integer=True allows no float between integers")
