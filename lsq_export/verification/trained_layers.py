"""The price of the fold, layer by layer: codes of the folded model against those that the trained one makes of the same
inputs, and why they differ.

What a learned quantizer of the trained graph hands on is replaced by what the folded model's codes stand for, with what
consumers' biases carry (E4), so that each difference is the doing of the layers since the last learned grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from dataclasses import replace as with_changes

import numpy as np
import onnx_ir as ir
import torch

from calib.errors import QuantizationError
from calib.grid import Grid
from lsq_export.graph.evaluate import evaluate, evaluate_node
from lsq_export.graph.grids import grid_of, movers_passed
from lsq_export.graph.notes import PASSED
from lsq_export.graph.read import attribute, is_marker
from lsq_export.rewrite.contract.decisions import LayerDecision, Remainder, TensorDecision
from lsq_export.rewrite.folding.pads import is_constant_pad, pad_code

from .parity import LayerParity
from .reasons import Cause, causes
from .tally import Tally


def trained_codes(decision: TensorDecision, codes: np.ndarray, grid_offset: float) -> np.ndarray:
    """Container codes as codes of the trained grid, counted from 0 (E5). grid_offset: the value of that 0."""
    return np.asarray((codes - decision.origin) / decision.stride + first_code(decision, grid_offset))


def first_code(decision: TensorDecision, grid_offset: float) -> int:
    """The trained code that a clamp in front made the lowest one (E10)."""
    return (
        0
        if decision.remainder in (Remainder.MOVED, Remainder.DROPPED)
        else round((decision.offset - grid_offset) / decision.scale)
    )


def behind(codes: np.ndarray, movers: Sequence[ir.Node], decision: TensorDecision) -> np.ndarray:
    """The codes of a grid where the trained graph has it: behind the operators that it moved in front of
    (rewrite/folding/clamps.py), of its channels alone.

    NaN is what a Pad added if the file has its value on a grid of somebody else, who moved in front of it as well.
    """
    own = codes if decision.channels is None else codes[:, slice(*decision.channels)]
    x = torch.from_numpy(own.astype(np.float64))
    for node in movers:
        mine = PASSED.read(node)[0] == decision.name
        added = (
            pad_code(node, decision.container_scale, decision.zero_point) if is_constant_pad(node) and mine else np.nan
        )
        x = evaluate_node(node, x, {2: torch.tensor(added)} if is_constant_pad(node) else {})
    return x.numpy()


@dataclass
class _Use:
    """One use of a learned quantizer, and what was found.

    grid: trained, unsigned. movers: that it moved in front of.
    """

    decision: TensorDecision
    grid: Grid
    cause: Cause
    movers: Sequence[ir.Node]
    tally: Tally = field(default_factory=Tally)

    def count_outside(self, codes: np.ndarray) -> None:
        """Codes of the container that are none of the grid's: whatever the image, E5's clip lets none through."""
        d = self.decision
        own = codes if d.channels is None else codes[:, slice(*d.channels)]
        low, high = d.origin, d.origin + (d.levels - 1) * d.stride
        if d.remainder != Remainder.MOVED and own.size and (own.min() < low or own.max() > high):
            self.tally.outside += int(((own < low) | (own > high)).sum())

    def compare(self, value: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """value: what the trained quantizer reads. Returns the values that the folded model's codes stand for."""
        d = self.decision
        if d.remainder == Remainder.MOVED:
            values = (codes - d.zero_point) * d.container_scale
            mine = self.grid.codes(values)
        else:
            mine = trained_codes(d, codes, self.grid.offset)
            values = self.grid.values(mine)
        if mine.shape != value.shape:
            raise QuantizationError(
                f"{d.name}: codes {mine.shape} for trained ones {value.shape}: export the bundle again with this "
                "version"
            )
        wanted = self.grid.codes(value)  # a clamp in front (E10) has limited the value
        if np.array_equal(mine, wanted):
            self.tally.elements += mine.size
            return np.asarray(values)
        unknown = np.isnan(mine)
        difference = np.where(unknown, 0, mine - wanted)
        self.tally.add(difference[~unknown])
        self.tally.reasons.update(self.cause.count(difference != 0, (value - self.grid.offset) / self.grid.scale))
        return np.where(unknown, self.grid.values(wanted), values)


class TrainedLayers:
    """Codes of a folded model against the trained graph, batch by batch."""

    def __init__(
        self, trained: ir.Graph, folded: ir.Graph, tensors: Sequence[TensorDecision], layers: Sequence[LayerDecision]
    ) -> None:
        self._trained = trained
        why = causes(folded, tensors, layers)
        self._uses: dict[str, _Use] = {}  # by the marker's output
        self._readers: dict[str, list[str]] = {}  # what a marker reads -> its outputs
        decided = {d.name: d for d in tensors if d.kind == "activation"}
        for marker in (node for node in trained if is_marker(node)):
            decision = decided[attribute(marker, "quantizer")]
            assert marker.inputs[0] is not None
            output, movers, cause = (
                str(marker.outputs[0].name),
                movers_passed(folded, decision.name),
                why[decision.codes],
            )
            if movers:  # they may have moved or merged the pixels of the border
                cause = with_changes(cause, border=bool(np.any(cause.border)))
            self._uses[output] = _Use(decision, grid_of(marker).unsigned(), cause, movers)
            self._readers.setdefault(str(marker.inputs[0].name), []).append(output)

    def add(self, x: torch.Tensor, codes: dict[str, np.ndarray]) -> None:
        """codes: {tensor: codes} of the integer graph for the input x [N, …]."""
        read = dict.fromkeys(self._readers.get(str(self._trained.inputs[0].name), ()), x.double())

        def replaced(name: str) -> torch.Tensor | None:
            if name not in self._uses:
                return None
            use, raw = self._uses[name], read.pop(name)
            use.count_outside(codes[use.decision.codes])
            return torch.from_numpy(
                use.compare(raw.numpy(), behind(codes[use.decision.codes], use.movers, use.decision))
            )

        def see(name: str, value: torch.Tensor) -> torch.Tensor | None:
            handed_on = replaced(name)
            read.update(dict.fromkeys(self._readers.get(name, ()), value if handed_on is None else handed_on))
            return handed_on

        evaluate(self._trained, x, on_value=see)

    def result(self) -> tuple[LayerParity, ...]:
        """One entry a use, named after the quantizer."""
        return tuple(use.tally.result(use.decision.name) for use in self._uses.values())
