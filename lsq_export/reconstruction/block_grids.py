"""What is learned: the grids of activations, and the rounding of weights, as markers come by."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import onnx_ir as ir
import torch

from lsq_export.graph.read import attribute
from lsq_export.qat.quantizer import Quantizer

from .rounding import LearnedWeight
from .subjects import Subject

GRID_STEP = 0.01  # of Adam, in shares of the scale that a grid has at first
WEIGHT_STEP, LEAST_STEP = 0.02, 0.01  # in shares of the way between two codes: of 32 steps, and of any number
EPS = 1e-15  # of Adam: LSQ's gradients of grids are small


@dataclass(frozen=True)
class New:
    """Grids and weights that are learned in one block."""

    grids: list[Quantizer] = field(default_factory=list)
    weights: list[LearnedWeight] = field(default_factory=list)

    def optimizer(self, steps: int) -> torch.optim.Optimizer:
        """Adam, with steps in units of each grid. steps: that it will make; of weights, more of them are shorter."""
        of_grids = [
            {"params": [p for p in (q.scale, q.offset) if p.requires_grad], "lr": GRID_STEP * float(q.scale.detach())}
            for q in self.grids
        ]
        of_weights = (
            [{"params": [w.share for w in self.weights], "lr": max(LEAST_STEP, WEIGHT_STEP * (32 / steps) ** 0.5)}]
            if self.weights
            else []
        )
        return torch.optim.Adam([*of_grids, *of_weights], eps=EPS, fused=True)

    def tensors(self) -> list[torch.Tensor]:
        """All that is learned."""
        return [*(p for q in self.grids for p in (q.scale, q.offset)), *(w.share for w in self.weights)]

    def state(self) -> list[torch.Tensor]:
        """A copy, for `restore`."""
        return [tensor.detach().clone() for tensor in self.tensors()]

    @torch.no_grad()
    def restore(self, state: list[torch.Tensor]) -> None:
        """As it was."""
        for tensor, before in zip(self.tensors(), state, strict=True):
            tensor.copy_(before)

    def forget_gradients(self) -> None:
        """As an optimizer's zero_grad, in less time."""
        for tensor in self.tensors():
            tensor.grad = None

    def close(self) -> None:
        """Nothing of this is learned any more; no gradients are left behind."""
        self.forget_gradients()
        for weight in self.weights:
            weight.settle()


class BlockGrids:
    """Call it as `OnMarker`: what a marker makes of its input. weights: those that are learned, by their quantizers."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self.weights: dict[str, LearnedWeight] = {}
        self._waiting = subject.once()
        self._new: New | None = None

    @contextmanager
    def opening(self) -> Iterator[New]:
        """Within it, what comes by for the first time is new."""
        self._new = New()
        try:
            yield self._new
        finally:
            self._new = None

    def __call__(self, marker: ir.Node, x: torch.Tensor) -> torch.Tensor:
        quantizer = self._subject.quantizer_of(marker)
        if self._new is not None and quantizer.name in self._waiting:
            self._waiting.remove(quantizer.name)
            self._add(self._new, quantizer, marker, x)
        weight = self.weights.get(quantizer.name)
        return quantizer(x) if weight is None else weight.value()

    def _add(self, new: New, quantizer: Quantizer, marker: ir.Node, x: torch.Tensor) -> None:
        if attribute(marker, "kind") != "weight":
            if quantizer.scale.requires_grad and not quantizer.left_out:
                new.grids.append(quantizer)
            return
        known = self._subject.weights.get(quantizer.name)
        if known is not None and torch.equal(known, x):
            with torch.enable_grad():
                self.weights[quantizer.name] = LearnedWeight(known, quantizer)
            new.weights.append(self.weights[quantizer.name])
