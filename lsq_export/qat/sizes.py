"""Sizes of tensors while a forward is watched: integers that know how the graph makes them.

They are what Python takes them for (`range(n)`, `if n > 1`), and where torch or arithmetic reads one, the graph has a
node that asks for the size, so that it is that of whatever input comes later.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx


class Size(int):
    """An integer. node: puts what makes it into the graph, once."""

    _make: Callable[[], fx.Node]
    _node: fx.Node | None

    @property
    def node(self) -> fx.Node:
        """What makes the number in the graph."""
        if self._node is None:
            self._node = self._make()
        return self._node


def size(value: int, make: Callable[[], fx.Node]) -> Size:
    """make: called when the number is used, for its node."""
    found = Size(value)
    found._make, found._node = make, None
    return found


def sizes_of(value: Any, node: Callable[[], fx.Node]) -> Any:
    """What `shape`, `size` or `numel` give of a tensor, as sizes. node: makes the node that asks for it."""
    if isinstance(value, tuple):
        asked = size(0, node)

        def item(index: int) -> Callable[[], fx.Node]:
            return lambda: asked.node.graph.call_function(operator.getitem, (asked.node, index))

        return torch.Size([size(number, item(index)) for index, number in enumerate(value)])
    return size(value, node) if isinstance(value, int) and not isinstance(value, bool) else value


def _arithmetic(function: Callable[[Any, Any], Any], reflected: bool) -> Callable[[Size, Any], Any]:
    plain = getattr(int, f"__{'r' * reflected}{function.__name__.strip('_')}__")

    def compute(self: Size, other: Any) -> Any:
        value = plain(self, other)
        if not isinstance(value, int):
            return value

        def make() -> fx.Node:
            mine, theirs = self.node, other.node if isinstance(other, Size) else other
            return self.node.graph.call_function(function, (theirs, mine) if reflected else (mine, theirs))

        return size(value, make)

    return compute


for _function in (operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod):
    for _reflected in (False, True):
        _name = f"__{'r' * _reflected}{_function.__name__}__"
        setattr(Size, _name, _arithmetic(_function, _reflected))
