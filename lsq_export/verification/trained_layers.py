"""The price of the fold, layer by layer: codes of the folded model against those that the trained one makes of the same
inputs, and why they differ.

What a learned quantizer of the trained graph hands on is replaced by what the folded model's codes stand for, with what
consumers' biases carry (E4), so that each difference is the doing of the layers since the last learned grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import onnx_ir as ir
import torch

from calib.errors import QuantizationError
from calib.grid import Grid
from calib.samples import Input
from lsq_export.graph import lockstep
from lsq_export.graph.grids import grid_of, movers_passed
from lsq_export.graph.lockstep import Made
from lsq_export.graph.read import attribute, is_marker
from lsq_export.rewrite.contract.decisions import LayerDecision, Remainder, TensorDecision

from .cause import Cause, causes
from .distribution import Spread
from .layer_parity import LayerParity
from .tally import Tally
from .trained_grid import codes_after, own_channels, trained_codes


class TrainedLayers:
    """Codes of a folded model against the trained graph, batch by batch."""

    def __init__(
        self, trained: ir.Graph, folded: ir.Graph, tensors: Sequence[TensorDecision], layers: Sequence[LayerDecision]
    ) -> None:
        self._trained = trained
        why, passed = causes(folded, tensors, layers), movers_passed(folded)
        decided = {d.name: d for d in tensors if d.kind == "activation"}
        self._uses: dict[str, _Use] = {}  # by the marker's output
        for marker in (node for node in trained if is_marker(node)):
            decision = decided[attribute(marker, "quantizer")]
            movers, cause = passed[decision.name], why[decision.codes]
            if movers:  # they may have moved or merged the pixels of the border
                cause = replace(cause, border=bool(np.any(cause.border)))
            grid = grid_of(marker).unsigned()
            self._uses[str(marker.outputs[0].name)] = _Use(decision=decision, grid=grid, cause=cause, movers=movers)

    def add(self, x: Input, codes: Mapping[str, np.ndarray]) -> None:
        """codes: {tensor: codes} of the integer graph for the input x [N, …]."""
        lockstep.run(self._trained, x, {name: partial(use.hand_on, codes) for name, use in self._uses.items()})

    def result(self) -> tuple[LayerParity, ...]:
        """One entry for each use, named after the quantizer."""
        return tuple(
            replace(use.tally.result(use.decision.name), data=use.spread.result()) for use in self._uses.values()
        )


@dataclass(kw_only=True)
class _Use:
    """One use of a learned quantizer, and what was counted.

    grid: the trained one, unsigned. cause: what can make its codes differ. movers: the operators that the grid was
    moved before. spread: of what the trained quantizer reads.
    """

    decision: TensorDecision
    grid: Grid
    cause: Cause
    movers: Sequence[ir.Node]
    tally: Tally = field(default_factory=Tally)
    spread: Spread = field(init=False)

    def __post_init__(self) -> None:
        self.spread = Spread(self.grid)

    def hand_on(self, codes: Mapping[str, np.ndarray], made: Made) -> torch.Tensor:
        """The values that the folded model's codes stand for, after they were compared with the trained model's."""
        own = codes[self.decision.codes]
        self._count_outside(own)
        return torch.from_numpy(self._compare(made.read.numpy(), codes_after(self.movers, own, self.decision, codes)))

    def _count_outside(self, codes: np.ndarray) -> None:
        """Codes of the container that are none of the grid's: whatever the image, E5's clip lets none through."""
        d = self.decision
        own = own_channels(codes, d)
        low, high = d.origin, d.origin + (d.levels - 1) * d.stride
        if d.remainder != Remainder.MOVED and own.size and (own.min() < low or own.max() > high):
            self.tally.outside += int(((own < low) | (own > high)).sum())

    def _compare(self, value: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """value: what the trained quantizer reads. codes: the folded model's. Returns the values of the codes."""
        ours, values = self._on_trained_grid(codes)
        if ours.ndim != value.ndim:
            raise QuantizationError(
                f"{self.decision.name}: codes {ours.shape} for trained ones {value.shape}: export the bundle again "
                "with this version"
            )
        trained = self.grid.codes(value)  # a clamp before the grid (E10) has limited the value
        self.spread.add(value, trained)
        if ours.shape != value.shape:  # as many rows as the data chose, in each of the two networks
            self.tally.add_other_shape(trained.size)
            return np.asarray(self.grid.values(trained))
        if np.array_equal(ours, trained):
            self.tally.add_equal(ours.size)
            return values
        unknown = np.isnan(ours)
        difference = np.where(unknown, 0, ours - trained)
        self.tally.add(difference[~unknown])
        self.tally.reasons.update(self.cause.count(difference != 0, (value - self.grid.offset) / self.grid.scale))
        return np.where(unknown, self.grid.values(trained), values)

    def _on_trained_grid(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(codes of the trained grid, values) of the folded model's codes."""
        d = self.decision
        if d.remainder == Remainder.MOVED:
            values = (codes - d.zero_point) * d.container_scale
            return np.asarray(self.grid.codes(values)), values
        ours = trained_codes(d, codes, self.grid.offset)
        return ours, np.asarray(self.grid.values(ours))
