"""The captured graph against the PyTorch model that was trained.

Two ways to compute a network in float32 round otherwise, and a low-bit network can make another answer of one code that
flips. So where the outputs differ, each layer is compared on the same inputs: what the model's own quantizers gave is
handed on in the graph."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from lsq_export.graph.capture import forward, forward_with_grids
from lsq_export.graph.evaluate import evaluate
from lsq_export.graph.grids import grid_of
from lsq_export.graph.read import attribute, is_marker

from .parity import CAPTURE_TOLERANCE, LayerParity
from .tally import Tally
from .verify_tools import capture_error


class CaptureCheck:
    """One captured graph and model, batch by batch."""

    def __init__(self, trained: ir.Graph, model: nn.Module) -> None:
        self._trained, self._model = trained, model
        self._markers = {
            str(node.outputs[0].name): (attribute(node, "quantizer"), grid_of(node).scale)
            for node in trained
            if is_marker(node)
        }
        self._errors: list[np.ndarray] = []
        self._tallies: defaultdict[str, Tally] = defaultdict(Tally)

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
                self._tallies[quantizer].add_other_shape(value.numel())
                return None
            wanted = wanted.cpu().to(value.dtype)
            self._tallies[quantizer].add(((value - wanted) / scale).numpy())
            return wanted

        for index, (found, wanted) in enumerate(
            zip(evaluate(self._trained, x, dtype=torch.float32, on_value=see), outputs, strict=True)
        ):
            unit = CAPTURE_TOLERANCE * max(float(np.abs(wanted).max()), 1e-30)
            misses = 2 * np.floor(
                np.abs(found.numpy() - wanted) / unit
            )  # two codes: no tie of an output is allowed for
            self._tallies[f"output {index}"].add(misses)

    @property
    def error(self) -> float:
        """Median over the images of |captured - trained| / max |trained|."""
        return float(np.median(np.concatenate(self._errors)))

    def layers(self) -> tuple[LayerParity, ...]:
        """One entry a use of a quantizer, and an output, of the batches whose outputs differed."""
        return tuple(tally.result(name) for name, tally in self._tallies.items())
