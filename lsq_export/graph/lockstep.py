"""Two runs of a network in step: what one of them made is handed on in the other, layer by layer.

A difference then neither hides another one nor multiplies from layer to layer: each is the doing of the operators since
the last tensor that was handed on.

    outputs, kept = keep(before, x, names)
    run(after, x, {name: lambda made: compare(kept[made.name], made.value) or kept[made.name] for name in names})
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import onnx_ir as ir
import torch

from calib.samples import Arrays, Input

from .evaluate import evaluate
from .read import maker_of


@dataclass(frozen=True)
class Made:
    """What one node did. output: one of its outputs. read: its first input. value: of that output."""

    output: ir.Value
    read: torch.Tensor
    value: torch.Tensor

    @property
    def name(self) -> str:
        """The output's."""
        return str(self.output.name)

    @property
    def node(self) -> ir.Node:
        """That made it."""
        return maker_of(self.output)


Meet = Callable[[Made], "torch.Tensor | None"]


def run(
    graph: ir.Graph, x: Input | Arrays, meet: Mapping[str, Meet], *, dtype: torch.dtype = torch.float64
) -> list[torch.Tensor]:
    """Outputs of the graph for one batch of inputs [N, …].

    meet: {tensor: function}. The function sees what was made there; what it returns is handed on in its place, and with
    None the tensor itself is.
    """

    def on_node(output: ir.Value, inputs: list[torch.Tensor | None], value: torch.Tensor) -> torch.Tensor | None:
        function = meet.get(str(output.name))
        if function is None:
            return None
        read = inputs[0] if inputs else None
        return function(Made(output, value if read is None else read, value))

    return evaluate(graph, x, dtype=dtype, on_node=on_node)


def keep(
    graph: ir.Graph, x: Input | Arrays, names: Collection[str], *, dtype: torch.dtype = torch.float64
) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """Outputs of the graph, and {name: tensor} of those among `names` that it makes."""
    kept: dict[str, torch.Tensor] = {}
    outputs = run(graph, x, {name: lambda made: kept.update({made.name: made.value}) for name in names}, dtype=dtype)
    return outputs, kept
