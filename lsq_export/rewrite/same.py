"""same: an exact pass hands on the network that it was given, shown on one image.

Two ways to hold the graph behind a pass against the graph in front of it, in float64:

    smooth     fake quantizers clip v = (x - β)/s to n … p and take v - sin(2πv)/4π for its rounding: for passes that compute a number in another
               way. Without jumps nothing depends on the side of a tie that 1e-8 puts a value on, and a wrong channel, scale or offset still shows
    rounded    for passes that move grids and clamps: every fake quantizer hands on what it made in front of the pass, so that a flipped tie
               neither hides nor multiplies, and few of its codes may differ

A difference is a fault of ours, so the export ends there; the promises of `verify` would hold for a network that nobody trained.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Literal

import onnx_ir as ir
import torch

from calib.errors import QuantizationError

from ..evaluate import evaluate
from ..graph import attribute, constant_of, is_marker

Mode = Literal["smooth", "rounded"]
TOLERANCE = 1e-4  # of a tensor's largest value: scales and their ratios are float32
FLIPS = 1e-3  # share of a tensor's codes that may lie on the other side of a tie
NOISE = 0.25  # standard deviations of the image, added to it, so that no two channels, rows or columns are alike


def probe(batches: Iterable[torch.Tensor]) -> tuple[torch.Tensor | None, Iterator[torch.Tensor]]:
    """One image [1, …] with seeded noise, and the batches as they were. None: there is no batch."""
    rest = iter(batches)
    first = next(rest, None)
    if first is None or not len(first):
        return None, iter(() if first is None else chain([first], rest))
    image = first[:1].double()
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return image + NOISE * max(float(image.std(correction=0)), 1e-3) * noise, chain([first], rest)


class Watch:
    """What a model computes of the probe, to hold a later state of it against an earlier one. Without a probe it sees nothing."""

    def __init__(self, x: torch.Tensor | None) -> None:
        self._x = x
        self._mode: Mode = "smooth"
        self._outputs: list[torch.Tensor] = []
        self._made: dict[str, torch.Tensor] = {}  # by fake quantizers

    def start(self, model: ir.Model, mode: Mode) -> None:
        self._mode, self._made = mode, {}
        if self._x is not None:
            self._outputs = _smooth(model.graph, self._x) if mode == "smooth" else self._record(model.graph, self._x)

    def unchanged(self, model: ir.Model, passes: str) -> None:
        """Errors (QuantizationError): the model computes something else than at `start`."""
        if self._x is None:
            return
        try:
            after = _smooth(model.graph, self._x) if self._mode == "smooth" else self._compare(model.graph, self._x)
            for output, mine, was in zip(model.graph.outputs, after, self._outputs, strict=True):
                if mine.shape != was.shape:
                    raise QuantizationError(f"{output.name} has the shape {list(mine.shape)}, not {list(was.shape)},")
                off = float((mine - was).abs().max() / was.abs().max().clamp(min=1e-30))
                if not off <= TOLERANCE:  # NaN is off as well
                    raise QuantizationError(f"{output.name} differs by {off:.3g} of its largest value")
        except QuantizationError as error:
            raise QuantizationError(f"{error} after the rewriting of {passes}, which must keep it; please report this model") from error

    def _record(self, graph: ir.Graph, x: torch.Tensor) -> list[torch.Tensor]:
        markers = _markers(graph)
        return evaluate(graph, x, on_value=lambda name, value: self._made.update({name: value}) if name in markers else None)

    def _compare(self, graph: ir.Graph, x: torch.Tensor) -> list[torch.Tensor]:
        markers = _markers(graph)

        def see(name: str, mine: torch.Tensor) -> torch.Tensor | None:
            was = self._made.get(name)
            if was is None or was.shape != mine.shape or name not in markers:  # a grid that moved; the outputs show whether it may
                return None
            scale, _ = _parameters(markers[name], mine)
            flips = int(((mine - was).abs() > scale / 2).sum())
            if flips > max(1, FLIPS * mine.numel()):
                quantizer = attribute(markers[name], "quantizer")
                raise QuantizationError(f"{quantizer}: {flips} of {mine.numel()} codes differ")
            return was

        return evaluate(graph, x, on_value=see)


def _markers(graph: ir.Graph) -> dict[str, ir.Node]:
    return {str(node.outputs[0].name): node for node in graph if is_marker(node) and len(node.inputs) == 3}


def _smooth(graph: ir.Graph, x: torch.Tensor) -> list[torch.Tensor]:
    markers = _markers(graph)
    wanted = {str(node.inputs[0].name) for node in markers.values() if node.inputs[0] is not None}
    read = {str(graph.inputs[0].name): x}

    def see(name: str, value: torch.Tensor) -> torch.Tensor | None:
        marker = markers.get(name)
        if marker is not None:
            assert marker.inputs[0] is not None
            value = _soften(marker, read[str(marker.inputs[0].name)])
        if name in wanted:
            read[name] = value
        return value if marker is not None else None

    return evaluate(graph, x, on_value=see)


def _soften(marker: ir.Node, x: torch.Tensor) -> torch.Tensor:
    scale, offset = _parameters(marker, x)
    v = ((x - offset) / scale).clamp(attribute(marker, "qmin"), attribute(marker, "qmax"))
    return (v - torch.sin(2 * math.pi * v) / (4 * math.pi)) * scale + offset


def _parameters(marker: ir.Node, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """s and β, shaped to go with x."""
    axis = attribute(marker, "axis", -1)
    scale, offset = (torch.from_numpy(constant_of(v, str(marker.name)).astype("float64")) for v in marker.inputs[1:3])
    scale, offset = (v.reshape([-1 if i == axis else 1 for i in range(x.dim())]) if v.dim() else v for v in (scale, offset))
    return scale, offset
