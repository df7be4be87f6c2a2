"""same: an exact pass hands on the network that it was given, shown on one image.

Every fake quantizer hands on what it made in front of the pass, so that differences neither hide nor grow from layer to
layer. What it makes behind the pass is held against that, in float64, in one of two ways:

    smooth     it clips v = (x - β)/s to n … p and takes v - sin(2πv)/4π for its rounding: for passes that compute a number in another way. Without
               jumps nothing depends on the side of a tie that 1e-8 puts a value on, and a wrong channel, scale or
               offset still shows
    rounded    codes, of which few may differ: for passes that move grids and clamps

A difference is a fault of ours, so the export ends there; the promises of `verify` would hold for a network that nobody
trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Literal

import onnx_ir as ir
import torch

from calib.errors import QuantizationError
from lsq_export.graph.build import attribute, constant_of, is_marker
from lsq_export.graph.evaluate import along_axis, evaluate

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
    """What a model computes of the probe, to hold a later state of it against an earlier one.

    Without a probe it sees nothing.
    """

    def __init__(self, x: torch.Tensor | None) -> None:
        self._x = x
        self._mode: Mode = "smooth"
        self._outputs: list[torch.Tensor] = []
        self._made: dict[str, torch.Tensor] = {}  # by fake quantizers

    def start(self, model: ir.Model, mode: Mode) -> None:
        self._mode, self._made = mode, {}

        def keep(marker: ir.Node, made: torch.Tensor) -> torch.Tensor:
            return self._made.setdefault(str(marker.outputs[0].name), made)

        if self._x is not None:
            self._outputs = self._run(model.graph, self._x, keep)

    def unchanged(self, model: ir.Model, passes: str) -> None:
        """Errors (QuantizationError): the model computes something else than at `start`."""
        if self._x is None:
            return
        try:
            after = self._run(model.graph, self._x, self._same)
            for output, mine, was in zip(model.graph.outputs, after, self._outputs, strict=True):
                if mine.shape != was.shape:
                    raise QuantizationError(f"{output.name} has the shape {list(mine.shape)}, not {list(was.shape)},")
                _check_near(str(output.name), mine, was)
        except QuantizationError as error:
            raise QuantizationError(
                f"{error} after the rewriting of {passes}, which must keep it; please report this model"
            ) from error

    def _run(
        self, graph: ir.Graph, x: torch.Tensor, hand_on: Callable[[ir.Node, torch.Tensor], torch.Tensor]
    ) -> list[torch.Tensor]:
        markers = {str(node.outputs[0].name): node for node in graph if is_marker(node) and len(node.inputs) == 3}
        wanted = {str(node.inputs[0].name) for node in markers.values() if node.inputs[0] is not None}
        read = {str(graph.inputs[0].name): x}

        def see(name: str, value: torch.Tensor) -> torch.Tensor | None:
            marker = markers.get(name)
            if marker is not None:
                assert marker.inputs[0] is not None
                value = hand_on(
                    marker, _soften(marker, read[str(marker.inputs[0].name)]) if self._mode == "smooth" else value
                )
            if name in wanted:
                read[name] = value
            return value if marker is not None else None

        return evaluate(graph, x, on_value=see)

    def _same(self, marker: ir.Node, mine: torch.Tensor) -> torch.Tensor:
        was = self._made.get(str(marker.outputs[0].name))
        if (
            was is None or was.shape != mine.shape
        ):  # a grid that moved or was merged; what reads it shows whether it may
            return mine
        quantizer = attribute(marker, "quantizer")
        if self._mode == "smooth":
            _check_near(quantizer, mine, was)
        else:
            flips = int(((mine - was).abs() > _parameters(marker, mine)[0] / 2).sum())
            if flips > max(1, FLIPS * mine.numel()):
                raise QuantizationError(f"{quantizer}: {flips} of {mine.numel()} codes differ")
        return was


def _check_near(name: str, mine: torch.Tensor, was: torch.Tensor) -> None:
    off = float((mine - was).abs().max() / was.abs().max().clamp(min=1e-30))
    if not off <= TOLERANCE:  # NaN is off as well
        raise QuantizationError(f"{name} differs by {off:.3g} of its largest value")


def _soften(marker: ir.Node, x: torch.Tensor) -> torch.Tensor:
    scale, offset = _parameters(marker, x)
    v = ((x - offset) / scale).clamp(attribute(marker, "qmin"), attribute(marker, "qmax"))
    return (v - torch.sin(2 * math.pi * v) / (4 * math.pi)) * scale + offset


def _parameters(marker: ir.Node, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """s and β, shaped to go with x."""
    scale, offset = (torch.from_numpy(constant_of(v, str(marker.name)).astype("float64")) for v in marker.inputs[1:3])
    return along_axis(marker, scale, x.dim()), along_axis(marker, offset, x.dim())
