"""Which operators between float ones belong to the same float island: no grid of 8 bits cuts an island into pieces.

    x -> mean -> sub -> square -> mean -> sqrt -> div -> mul(constant) -> layer        a norm written by hand
         soft    soft   soft      soft    FLOAT   FLOAT  tail

A soft operator (sums, products with a number, clamps, means, reshapes) is drawn in where everything that reads it
belongs to islands, and where it, or a neighbor of its kind, comes after a float operator, is a mean, or adds a mask to
what a softmax reads (a front). What constants do to an island (a tail) is drawn in as well. One rule for both graphs:
torch.fx's in training, ONNX's in the fold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import TypeVar

Node = TypeVar("Node")


class Role(Enum):
    """What an operator is to the islands around it."""

    FLOAT = "has no integer form, or reads such an operator"
    ISLAND = "an island of the table"
    MEAN = "soft, and a reason to be drawn in"
    SOFT = "soft"
    OTHER = "a layer, a grid, a product of two tensors, arithmetic of shapes"


def drawn_in(
    nodes: Sequence[Node],
    role: Callable[[Node], Role],
    makers: Callable[[Node], Iterable[Node]],
    readers: Callable[[Node], Sequence[Node] | None],
    tail: Callable[[Node], bool],
    light: Callable[[Node], bool],
    front: Callable[[Node], bool],
) -> set[Node]:
    """Of nodes in order. readers: None where the outside reads a node. tail: all its inputs but one are constants.

    light: it only moves or clamps elements. front: it adds tensors that a softmax reads.
    """
    roles = {node: role(node) for node in nodes}
    down = _read_by_islands(nodes, roles, readers)
    found: set[Node] = set()
    for group in _groups(nodes, down, makers):
        after = any(roles.get(maker) is Role.FLOAT for node in group for maker in makers(node))
        if after or any(roles[node] is Role.MEAN or front(node) for node in group):
            found.update(_without_front(group, roles, makers, light))
    for node in nodes:
        if node not in found and tail(node):
            found.update(_to_island(node, found, roles, makers, readers, light))
    return found


def _without_front(
    group: Sequence[Node],
    roles: dict[Node, Role],
    makers: Callable[[Node], Iterable[Node]],
    light: Callable[[Node], bool],
) -> set[Node]:
    """A group without the light operators with which it begins: a grid does as well after a clamp as before it."""
    kept: set[Node] = set()
    for node in group:
        if not light(node) or any(maker in kept or roles.get(maker) is Role.FLOAT for maker in makers(node)):
            kept.add(node)
    return kept


def _to_island(
    node: Node,
    found: set[Node],
    roles: dict[Node, Role],
    makers: Callable[[Node], Iterable[Node]],
    readers: Callable[[Node], Sequence[Node] | None],
    light: Callable[[Node], bool],
) -> list[Node]:
    """A tail, and what is light between it and the island before it; none if there is no island."""
    way = [node]
    while True:
        before = list(makers(way[-1]))
        if len(before) != 1 or len(readers(before[0]) or ()) != 1:
            return []
        if before[0] in found or roles.get(before[0]) is Role.FLOAT:
            return way
        if not light(before[0]):
            return []
        way.append(before[0])


def _read_by_islands(
    nodes: Sequence[Node], roles: dict[Node, Role], readers: Callable[[Node], Sequence[Node] | None]
) -> set[Node]:
    """The soft operators that only islands read, directly or through others of these."""
    down: set[Node] = set()
    for node in reversed(nodes):
        read_by = readers(node)
        soft = roles[node] in (Role.SOFT, Role.MEAN) and bool(read_by)
        if soft and all(roles.get(r) in (Role.FLOAT, Role.ISLAND) or r in down for r in read_by or ()):
            down.add(node)
    return down


def _groups(
    nodes: Sequence[Node], among: set[Node], makers: Callable[[Node], Iterable[Node]]
) -> Iterable[Sequence[Node]]:
    """Neighbors, and neighbors of neighbors."""
    leader = {node: node for node in among}

    def first(node: Node) -> Node:
        while leader[node] != node:
            leader[node] = leader[leader[node]]
            node = leader[node]
        return node

    for node in nodes:
        for maker in makers(node) if node in among else ():
            if maker in among:
                leader[first(node)] = first(maker)
    groups: dict[Node, list[Node]] = {}
    for node in nodes:
        if node in among:
            groups.setdefault(first(node), []).append(node)
    return groups.values()
