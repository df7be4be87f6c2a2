"""A graph in blocks: runs of nodes, cut where as little as possible goes on from one to the next.

    x -> [conv, relu] -> a -> [conv, relu, conv, + a, relu] -> b -> …        one value goes on: a cut

Where many layers pass by without such a place, or an operator comes through which no gradient goes, several values go
on. Weights, and what is computed from constants alone, belong to no block: they are made where they are read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx_ir as ir

from lsq_export.adoption.layers import LAYERS
from lsq_export.graph.evaluate import has_gradient
from lsq_export.graph.read import attribute, is_marker

MOST = 6  # layers in a block that could not be cut at a single value


@dataclass(frozen=True)
class Block:
    """nodes: in order. given: values that they read or that later blocks read. made: those that go on, of this block.

    kept: all that go on.
    """

    nodes: tuple[ir.Node, ...]
    given: tuple[ir.Value, ...]
    made: tuple[ir.Value, ...]
    kept: tuple[ir.Value, ...]

    @property
    def name(self) -> str:
        """The last layer's."""
        layers = [str(node.name) for node in self.nodes if _is_layer(node)]
        return layers[-1] if layers else str(self.nodes[-1].name)


def blocks_of(graph: ir.Graph) -> list[Block]:
    """All nodes that read data, in order."""
    nodes = _data_nodes(graph)
    last = {value: index for index, node in enumerate(nodes) for value in node.inputs if value is not None}
    outputs = set(graph.outputs)
    data: set[ir.Value] = {*graph.inputs, *(value for node in nodes for value in node.outputs)}
    found: list[Block] = []
    live: dict[ir.Value, None] = dict.fromkeys(graph.inputs)  # in the order in which they are made
    given, first = tuple(live), 0
    for index, node in enumerate(nodes):
        live |= dict.fromkeys(node.outputs)
        live = {v: None for v in live if v in data and (last.get(v, -1) > index or v in outputs)}
        if index + 1 == len(nodes) or _ends(nodes[first : index + 1], nodes[index + 1], len(live)):
            inside = nodes[first : index + 1]
            here = {value for n in inside for value in n.outputs}
            found.append(Block(tuple(inside), given, tuple(v for v in live if v in here), tuple(live)))
            given, first = tuple(live), index + 1
    return found


def _data_nodes(graph: ir.Graph) -> list[ir.Node]:
    data = set(graph.inputs)
    found = []
    for node in graph:
        if any(value in data for value in node.inputs if value is not None):
            data.update(node.outputs)
            found.append(node)
    return found


def _ends(inside: Iterable[ir.Node], following: ir.Node, going_on: int) -> bool:
    """Whether a block ends here. A float layer's norm and activation stay with it, up to the next grid."""
    layers = sum(map(_is_layer, inside))
    if not layers:
        return False
    if not has_gradient(following):
        return True
    return _is_grid(following) and (going_on == 1 or layers >= MOST)


def _is_grid(node: ir.Node) -> bool:
    return is_marker(node) and attribute(node, "kind") != "weight"


def _is_layer(node: ir.Node) -> bool:
    return node.op_type in LAYERS
