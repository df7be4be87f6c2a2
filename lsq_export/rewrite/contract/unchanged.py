"""Whether a pass left a graph as it was: then it computes the same, and need not be run to see that.

The very nodes with the very inputs, attributes and constants, in the same order. They are held here, so that no new one
can take the place of one that is gone. Notes (metadata) compute nothing.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir


class Snapshot:
    """The parts of a graph at one moment."""

    def __init__(self, graph: ir.Graph) -> None:
        self._parts = list(_parts(graph))

    def holds_of(self, graph: ir.Graph) -> bool:
        """Whether the graph has these parts still, and no others."""
        now = _parts(graph)
        return len(now) == len(self._parts) and all(a is b for a, b in zip(now, self._parts, strict=True))


def _parts(graph: ir.Graph) -> list[Any]:
    found: list[Any] = [*graph.inputs, None, *graph.outputs, None]
    for node in graph:
        found += (node, node.op_type, *node.inputs, None, *node.attributes.values(), None)
        found += (part for value in node.outputs for part in (value, value.name))
        found += (value.const_value for value in node.inputs if value is not None and value.producer() is None)
    return found
