"""A pass hands on the network that it was given, shown on one image.

Every quantizer hands on what it made before the pass, so that differences neither hide nor grow from layer to layer.
What it makes after the pass is held against that, in float64, as closely as the pass says that it keeps it (passes.py):

    values     a quantizer clips v = (x - β)/s to n … p and takes v - sin(2πv)/4π for its rounding: without jumps
               nothing depends on the side of a tie that 1e-8 puts a value on, and a wrong channel, scale or offset
               still shows
    rounded    what quantizers make, of which elements next to a tie may lie on its other side, and few others
    codes      codes, wherever the pass put their grid; more may differ where decisions say that something was rounded

Elements next to a tie may be many: equal values have equal ties, and a sigmoid of 8-bit codes has but 256 values.

A difference is a fault of ours, so the export ends there; the promises of `verify` would hold for a network that nobody
trained.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import onnx_ir as ir
import torch

from calib.errors import QuantizationError
from calib.samples import Input, each_float
from lsq_export.graph.edit import copy
from lsq_export.graph.evaluate import has_meaning
from lsq_export.graph.float_grids import along_axis
from lsq_export.graph.grids import quantizer_of
from lsq_export.graph.lockstep import Made, Meet, run
from lsq_export.graph.read import attribute, constant_of, is_marker

from .passes import Keeps, State
from .placed import Placed, placed_grids
from .unchanged import Snapshot

TOLERANCE = 1e-4  # of a tensor's largest value: scales and their ratios are float32
FLIPS = 1e-3  # share of a tensor's codes that may lie on the other side of a tie, by chance
CHANCE = 1  # codes more than that, and three standard deviations, in a tensor of any size
NOISE = 0.25  # standard deviations of the image, added to it, so that no two channels, rows or columns are alike


def probe(batches: Iterable[Any]) -> tuple[Any, Iterator[Any]]:
    """One image [1, …] with seeded noise on its floats, and the batches as they were. None: there is no batch."""
    rest = iter(batches)
    first = next(rest, None)
    if first is None or not len(first):
        return None, iter(() if first is None else chain([first], rest))
    generator = torch.Generator().manual_seed(0)

    def noisy(tensor: torch.Tensor) -> torch.Tensor:
        image = tensor.double()
        noise = torch.randn(image.shape, generator=generator, dtype=torch.float64)
        return image + NOISE * max(float(image.std(correction=0)), 1e-3) * noise

    return each_float(first[:1], noisy), chain([first], rest)


@dataclass
class Seen:
    """What a graph makes of the probe. made: by its quantizers, by name; under Keeps.CODES these are codes."""

    outputs: list[torch.Tensor]
    made: dict[str, torch.Tensor]


class Watch:
    """What a model computes of the probe, to hold a later state of it against an earlier one.

    Without a probe it sees nothing. A run of the model for each pass is enough: what one pass left is what the next one
    is held against, as long as both are watched in the same way.
    """

    def __init__(self, probe: Input | None) -> None:
        self._probe = probe
        self._keeps = Keeps.NOTHING
        self._seen: Seen | None = None
        self._unseen: tuple[ir.Model, Mapping[str, Placed]] | None = None  # to be run only if the pass succeeds
        self._as_seen: Snapshot | None = None  # gave `_seen`, or will; not of codes, whose grids a pass moves
        self._positions: dict[str, torch.Tensor] = {}  # of what markers read, by the grid's name: see Placed

    @property
    def not_finite(self) -> str | None:
        """The first quantizer or output of which the network itself, before any fault of ours, makes no number."""
        seen = self._seen
        if seen is None:
            return None
        outputs = {f"output {index}": value for index, value in enumerate(seen.outputs)}
        return next((name for name, value in {**seen.made, **outputs}.items() if not torch.isfinite(value).all()), None)

    def before(self, model: ir.Model, state: State, keeps: Keeps) -> None:
        """A pass that keeps this much is about to run."""
        if self._probe is None:
            return
        if keeps is Keeps.NOTHING:
            self._positions.clear()
        if keeps is not self._keeps or keeps is Keeps.NOTHING:
            self._seen = None
            self._unseen = (copy(model), placed_grids(model.graph, state)) if keeps is not Keeps.NOTHING else None
            self._as_seen = Snapshot(model.graph) if keeps is not Keeps.CODES else None
        self._keeps = keeps

    def after(self, model: ir.Model, state: State) -> None:
        """Errors (QuantizationError): the model computes something else than before."""
        if self._probe is None or self._keeps is Keeps.NOTHING or not has_meaning(model.graph):
            return  # what cannot be evaluated yet is held against the same state after the next pass, or refused there
        if self._as_seen is not None and self._as_seen.holds_of(model.graph):
            return
        if self._unseen is not None:
            was, placed = self._unseen
            self._seen, self._unseen = (self._run(was.graph, placed, None) if has_meaning(was.graph) else None), None
        before = self._seen
        self._seen = self._run(model.graph, placed_grids(model.graph, state), before)
        self._as_seen = Snapshot(model.graph) if self._keeps is not Keeps.CODES else None
        if before is None:
            return
        for output, now, was_then in zip(model.graph.outputs, self._seen.outputs, before.outputs, strict=True):
            if now.shape != was_then.shape:
                raise QuantizationError(f"{output.name} has the shape {list(now.shape)}, not {list(was_then.shape)},")
            if self._keeps is not Keeps.CODES:
                _check_near(str(output.name), now, was_then)

    def _run(self, graph: ir.Graph, placed: Mapping[str, Placed], before: Seen | None) -> Seen:
        assert self._probe is not None
        made: dict[str, torch.Tensor] = {}
        if self._keeps is Keeps.CODES:
            meet = {
                grid.tensor: _meet_codes(name, grid, made, before, self._positions) for name, grid in placed.items()
            }
        else:
            smooth = self._keeps is Keeps.VALUES
            markers = [node for node in graph if is_marker(node) and len(node.inputs) == 3]
            learned = [node for node in markers if attribute(node, "kind") != "weight"]
            meet = {str(node.outputs[0].name): _meet_values(made, before, smooth=smooth) for node in learned}
        return Seen(run(graph, self._probe, meet), made)


def _meet_values(made: dict[str, torch.Tensor], before: Seen | None, *, smooth: bool) -> Meet:
    """At a marker: hand on what it made before the pass, if that is near enough."""

    def meet(now: Made) -> torch.Tensor:
        name = str(now.node.outputs[0].name)
        value = _soften(now.node, now.read) if smooth else now.value
        was = before.made.get(name) if before is not None else None
        if was is not None and was.shape == value.shape:  # else the grid moved or was merged: its readers are checked
            quantizer = quantizer_of(now.node)
            if smooth:
                _check_near(quantizer, value, was)
            else:
                scale, offset = _parameters(now.node, value)
                _check_flips(quantizer, value / scale, was / scale, FLIPS, (now.read - offset) / scale)
            value = was
        made[name] = value
        return value

    return meet


def _meet_codes(
    name: str, grid: Placed, made: dict[str, torch.Tensor], before: Seen | None, positions: dict[str, torch.Tensor]
) -> Meet:
    """At the codes of a grid: hand on those that it had before the pass, if nearly all are the same."""

    def meet(now: Made) -> torch.Tensor | None:
        codes = grid.codes(now.value)
        if grid.position is not None:
            positions[name] = grid.position(now.read)
        was = before.made.get(name) if before is not None else None
        if was is None or was.shape != codes.shape or grid.another:
            made[name] = codes
            return None
        if grid.allowed is not None:
            _check_flips(name, codes, was, FLIPS + grid.allowed, positions.get(name))
        made[name] = was
        return grid.value(was)

    return meet


def _check_flips(
    name: str, codes: torch.Tensor, was: torch.Tensor, allowed: float, position: torch.Tensor | None = None
) -> None:
    """codes, was: of the probe. allowed: steps by which values may have moved, and so the share of codes that may flip.

    position: in codes, before rounding; flips of what lies nearer than that to a tie are not counted.
    """
    moved = codes - was
    flips = ~(moved.abs() <= 0.5) & torch.isfinite(was)  # what was not finite before the pass is not its doing
    if position is not None and position.shape == flips.shape:
        next_to_tie = (position - position.floor() - 0.5).abs() <= allowed
        flips &= ~(next_to_tie & (moved.abs().round() == 1))
    count = int(flips.sum())
    if count > CHANCE + allowed * flips.numel() + 3 * math.sqrt(allowed * flips.numel()):
        raise QuantizationError(f"{name}: {count} of {flips.numel()} codes differ")


def _check_near(name: str, value: torch.Tensor, was: torch.Tensor) -> None:
    if not was.numel() or not torch.isfinite(was).all():
        return  # no pass can keep that; the one that reads what is not finite names it
    value, was = value.double(), was.double()  # integers and masks as well
    off = float((value - was).abs().max() / was.abs().max().clamp(min=1e-30))
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
