"""How the trained network answers to a change of its inputs as small as rounding: the scale for what a fold costs.

The inputs are larger by NUDGE, against themselves. Where their grid has about the steps of 8-bit pixels, that flips no
code, or next to none, whatever the network makes of it: there the values behind that grid are larger by NUDGE. They go
on as real numbers, so the next grids see the change.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir
import torch

from lsq_export.graph.evaluate import evaluate
from lsq_export.graph.read import is_marker

from .agreement import Agreement
from .nearer import LIMIT
from .parity import NUDGE


class Yardstick:
    """The trained model against itself, batch by batch."""

    def __init__(self, trained: ir.Model) -> None:
        self._graph = trained.graph
        self._first = first_grids(trained.graph)
        self._inputs, self._behind = Agreement(), Agreement()

    def on_inputs(self, x: torch.Tensor) -> list[np.ndarray]:
        """Outputs for larger inputs."""
        return [v.numpy() for v in evaluate(self._graph, larger(x), dtype=torch.float32)]

    def add(self, x: torch.Tensor, on_inputs: list[np.ndarray], expected: list[np.ndarray]) -> None:
        """One batch. expected: what the same graph makes of the inputs as they are."""
        self._inputs.add(on_inputs, expected, None)
        if self._inputs.sqnr_db > LIMIT and self._first:  # next to nothing was flipped up to here
            self._behind.add(self._behind_grids(x), expected, None)

    def result(self) -> Agreement:
        """On the inputs, or behind their grids where the inputs tell nothing."""
        told = self._inputs.sqnr_db <= LIMIT or self._behind.images < self._inputs.images
        return self._inputs if told else self._behind

    def _behind_grids(self, x: torch.Tensor) -> list[np.ndarray]:
        def change(name: str, value: torch.Tensor) -> torch.Tensor | None:
            return larger(value) if name in self._first else None

        return [v.numpy() for v in evaluate(self._graph, x, dtype=torch.float32, on_value=change)]


def larger(x: torch.Tensor) -> torch.Tensor:
    """x · (1 + NUDGE); what would overflow stays."""
    changed = x * (1 + NUDGE)
    return torch.where(torch.isfinite(changed), changed, x)


def first_grids(graph: ir.Graph) -> Collection[str]:
    """Values on a grid that no other grid lies before: names of what the first quantizers of the input give."""
    raw, found = {graph.inputs[0]}, set[str]()
    for node in graph:
        if any(value in raw for value in node.inputs):
            if is_marker(node):
                found.add(str(node.outputs[0].name))
            else:
                raw.update(node.outputs)
    return found
