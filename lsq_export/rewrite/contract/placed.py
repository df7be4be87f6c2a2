"""Where the grids of a graph are, before and after they were placed in containers, and how their codes are read there.

    a marker                       codes = round((x̂ - β)/s), counted from the lowest one       x̂ = s·q + β   (E1)
    a tensor of container codes    codes = (c - o)/k                                           c = k·q + o   (E5)

Both ways count codes alike, so that the codes of a grid can be compared across the passes that place it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import onnx_ir as ir
import torch

from lsq_export.graph.grids import grid_of, is_edge, is_merged, offsets_of, quantizer_of, scale_of
from lsq_export.graph.notes import PARTS
from lsq_export.graph.operators import LAYERS
from lsq_export.graph.read import attribute, is_marker, is_op

from .decisions import LayerDecision, Remainder, TensorDecision
from .passes import State

Convert = Callable[[torch.Tensor], torch.Tensor]
LEVELS = 256
TIES = 0.01  # share of codes that may flip where constants were moved to keep sums clear of ties (ties.py)


@dataclass(frozen=True, kw_only=True)
class Placed:
    """One grid. tensor: where it is. codes, value: the tensor's values as codes, and back.

    position: of what a marker reads, in codes, before rounding and clipping; None once the grid is in a container.
    another: it is not the trained grid, so that its codes say something else. allowed: the share of codes that what was
    rounded before it may flip, by the decisions; None where a grid before it is another one.
    """

    tensor: str
    codes: Convert
    value: Convert
    position: Convert | None = None
    another: bool = False
    allowed: float | None = 0.0


def placed_grids(graph: ir.Graph, state: State) -> Mapping[str, Placed]:
    """{quantizers, joined by "+" where they were merged: their grid} of all activations and edges."""
    if not state.tensors:
        markers = [node for node in graph if is_marker(node) and len(node.inputs) == 3]
        return {_name(node): _of_marker(node) for node in markers if attribute(node, "kind") != "weight"}
    by_tensor = [list(group) for _, group in groupby(state.tensors, key=lambda decision: decision.codes)]
    losses = _Losses(graph, state.tensors, state.layers)
    return {"+".join(d.name for d in group): _of_decisions(group, losses) for group in by_tensor}


def _name(marker: ir.Node) -> str:
    return "+".join(part.quantizer for part in PARTS.get(marker, ())) or quantizer_of(marker)


def _of_marker(marker: ir.Node) -> Placed:
    lowest = 0 if is_edge(marker) else int(attribute(marker, "qmin"))
    scale = scale_of(marker)
    offset = torch.from_numpy(offsets_of(marker)) if is_merged(marker) else torch.tensor(grid_of(marker).offset)

    def position(value: torch.Tensor) -> torch.Tensor:
        return (value - _along_channels(offset, value)) / scale - lowest

    def codes(value: torch.Tensor) -> torch.Tensor:
        return position(value).round()

    def value(codes: torch.Tensor) -> torch.Tensor:
        return (codes + lowest) * scale + _along_channels(offset, codes)

    return Placed(tensor=str(marker.outputs[0].name), codes=codes, value=value, position=position)


def _of_decisions(group: Sequence[TensorDecision], losses: _Losses) -> Placed:
    """group: those whose codes are one tensor, in the order of its channels."""
    first = group[0]
    origins = [d.origin for d in group for _ in range(*(d.channels or (0, 1)))]
    origin = torch.tensor(origins, dtype=torch.float64)

    def codes(stored: torch.Tensor) -> torch.Tensor:
        return (stored - _along_channels(origin, stored)) / first.stride

    def value(codes: torch.Tensor) -> torch.Tensor:
        return codes * first.stride + _along_channels(origin, codes)

    another = any(_is_another(decision) for decision in group)
    return Placed(tensor=first.codes, codes=codes, value=value, another=another, allowed=losses.before(group))


def _along_channels(parameter: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """[] or [1] as it is, [C] shaped to go with x [N, C, …]."""
    return parameter if parameter.numel() == 1 else parameter.reshape([1, -1, *[1] * (x.dim() - 2)])


class _Losses:
    """What decisions say was rounded, moved or left out between grids."""

    def __init__(self, graph: ir.Graph, tensors: Iterable[TensorDecision], layers: Iterable[LayerDecision]) -> None:
        self._made = {str(value.name): node for node in graph for value in node.outputs}
        self._tensors = {decision.codes: decision for decision in tensors}
        self._layers = {decision.name: decision for decision in layers}

    def before(self, group: Sequence[TensorDecision]) -> float | None:
        """The share of a grid's codes that may flip; None if a grid before it is not the trained one."""
        scale, allowed = min(decision.scale for decision in group), TIES
        for node in self._upstream(group[0].codes):
            layer = self._layers.get(str(node.name)) if is_op(node, *LAYERS) else None
            allowed += layer.bias_error_steps + layer.coarse_steps if layer is not None else 0.0
            source = self._tensors.get(str(node.outputs[0].name))
            if source is None or source.codes == group[0].codes:
                continue
            if _is_another(source):
                return None
            allowed += source.border / scale + LEVELS * _moved_share(source)
        return 2 * (allowed + LEVELS * max(map(_moved_share, group)))  # codes are not spread evenly between ties

    def _upstream(self, tensor: str) -> Iterator[ir.Node]:
        """The nodes between a grid and those before it, and what makes the codes of these."""
        todo, seen = [tensor], {tensor}
        while todo:
            name = todo.pop()
            node = self._made.get(name)
            if node is None:
                continue
            yield node
            if name == tensor or name not in self._tensors:
                names = [str(value.name) for value in node.inputs if value is not None]
                todo += [n for n in names if n not in seen]
                seen.update(names)


def _is_another(decision: TensorDecision) -> bool:
    return decision.remainder in (Remainder.MOVED, Remainder.DROPPED)


def _moved_share(decision: TensorDecision) -> float:
    """Of its scale, by which the container's grid is not the trained one."""
    return abs(decision.container_scale * decision.stride / decision.scale - 1)
