"""The captured graph against the PyTorch model that was trained.

Two ways to compute a network in float32 round otherwise, and a low-bit network can make another answer of one code that flips. So where the outputs
differ, each layer is compared on the same inputs: what the model's own quantizers gave is handed on in the graph.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from .capture import forward, forward_with_grids
from .evaluate import evaluate
from .graph import attribute, is_marker
from .parity import CAPTURE_TOLERANCE, LayerParity
from .rewrite.clamps import grid_of
from .verify_tools import NOT_A_CODE, capture_error


class CaptureCheck:
    """One captured graph and model, batch by batch."""

    def __init__(self, trained: ir.Graph, model: nn.Module) -> None:
        self._trained, self._model = trained, model
        self._markers = {str(node.outputs[0].name): (attribute(node, "quantizer"), grid_of(node).scale) for node in trained if is_marker(node)}
        self._errors: list[np.ndarray] = []
        self._elements: Counter[str] = Counter()
        self._histograms: dict[str, Counter[int]] = {}

    def outputs(self, x: torch.Tensor) -> list[np.ndarray]:
        """Of the model. It is called in this thread, as its user would."""
        return [v.cpu().numpy() for v in forward(self._model, self._placed(x))]

    def _placed(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(next(self._model.parameters()).device)

    def add(self, x: torch.Tensor, captured: list[np.ndarray], outputs: list[np.ndarray]) -> None:
        """captured: what the graph made of x. outputs: the model's."""
        errors = capture_error(captured[0], outputs[0])
        self._errors.append(errors)
        if np.median(errors) <= CAPTURE_TOLERANCE:
            return
        _, given = forward_with_grids(self._model, self._placed(x))

        def see(name: str, value: torch.Tensor) -> torch.Tensor | None:
            if name not in self._markers:
                return None
            quantizer, scale = self._markers[name]
            wanted = given.get(quantizer)
            if wanted is None or wanted.shape != value.shape:
                self._record(quantizer, np.full(value.numel(), NOT_A_CODE))
                return None
            wanted = wanted.cpu().to(value.dtype)
            self._record(quantizer, ((value - wanted) / scale).numpy())
            return wanted

        for index, (found, wanted) in enumerate(zip(evaluate(self._trained, x, dtype=torch.float32, on_value=see), outputs, strict=True)):
            unit = CAPTURE_TOLERANCE * max(float(np.abs(wanted).max()), 1e-30)
            self._record(f"output {index}", 2 * np.floor(np.abs(found.numpy() - wanted) / unit))  # no tie of an output is allowed for

    def _record(self, name: str, steps: np.ndarray) -> None:
        codes, counts = np.unique(np.rint(np.nan_to_num(steps, nan=NOT_A_CODE)), return_counts=True)
        self._elements[name] += steps.size
        histogram = self._histograms.setdefault(name, Counter())
        histogram.update({int(c): int(n) for c, n in zip(codes.clip(-NOT_A_CODE, NOT_A_CODE), counts, strict=True) if c})

    @property
    def error(self) -> float:
        """Median over the images of |captured - trained| / max |trained|."""
        return float(np.median(np.concatenate(self._errors)))

    def layers(self) -> tuple[LayerParity, ...]:
        """One entry a use of a quantizer, and an output, of the batches whose outputs differed."""
        return tuple(
            LayerParity(name, elements, sum(h.values()) / elements, max(map(abs, h), default=0), dict(h))
            for name, elements in self._elements.items()
            for h in (self._histograms[name],)
        )
