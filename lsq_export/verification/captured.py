"""The captured graph against the model that was trained: a PyTorch model, or the file of another tool.

Two ways to compute a network in float32 round otherwise, and a low-bit network can make another answer of one code that
flips. So where the outputs differ, each layer is compared on the same inputs: what the model's own quantizers gave is
handed on in the graph.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from calib.door import unwrapped
from calib.errors import QuantizationError
from calib.samples import Input, each
from lsq_export.graph import lockstep
from lsq_export.graph.capture import forward, forward_with_grids
from lsq_export.graph.grids import grid_of
from lsq_export.graph.lockstep import Made
from lsq_export.graph.read import attribute, is_marker

from .layer_parity import LayerParity
from .parity import CAPTURE_TOLERANCE
from .tally import Tally

SMALLEST = 1e-30  # in place of a range of zero


class Original(Protocol):
    """A trained network that is no PyTorch model."""

    def outputs(self, x: Input) -> list[np.ndarray]:
        """All outputs for one batch [N, …]."""


class CaptureCheck:
    """One captured graph and model, batch by batch."""

    def __init__(self, trained: ir.Graph, model: nn.Module | Original) -> None:
        self._trained, self._model = trained, unwrapped(model) if isinstance(model, nn.Module) else model
        self._scales = {str(node.outputs[0].name): grid_of(node).scale for node in trained if is_marker(node)}
        self._errors: list[np.ndarray] = []
        self._tallies: defaultdict[str, Tally] = defaultdict(Tally)
        self.steady = True  # as far as it was asked twice

    def outputs(self, x: Input) -> list[np.ndarray]:
        """The model's. It is called in this thread, as its user would."""
        if not isinstance(self._model, nn.Module):
            return self._model.outputs(x)
        return [v.cpu().numpy() for v in forward(self._model, self._placed(x))]

    def _placed(self, x: Input) -> Any:
        assert isinstance(self._model, nn.Module)
        device = next(self._model.parameters()).device
        return each(x, lambda tensor: tensor.to(device))

    def add(self, x: Input, captured: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> None:
        """captured: what the graph made of x [N, …]. outputs: the model's."""
        errors = capture_error(captured[0], outputs[0])
        self._errors.append(errors)
        if not np.median(errors) <= CAPTURE_TOLERANCE:  # NaN, too
            self._compare_layers(x, outputs)

    def _compare_layers(self, x: Input, outputs: Sequence[np.ndarray]) -> None:
        given: Mapping[str, torch.Tensor] = {}
        if isinstance(self._model, nn.Module):
            again, given = forward_with_grids(self._model, self._placed(x))
            self.steady &= not np.median(capture_error(again[0].cpu().numpy(), outputs[0])) > CAPTURE_TOLERANCE
        meet = {} if not given else dict.fromkeys(self._scales, partial(self._hand_on, given))
        ours = lockstep.run(self._trained, x, meet, dtype=torch.float32)
        for index, (output, expected) in enumerate(zip(ours, outputs, strict=True)):
            difference = np.abs(output.numpy().astype(np.float64) - expected)
            units = np.floor(difference / (CAPTURE_TOLERANCE * max(float(np.abs(expected).max()), SMALLEST)))
            self._tallies[f"output {index}"].add(2 * units)  # two codes: no tie of an output is allowed for

    def _hand_on(self, given: Mapping[str, torch.Tensor], made: Made) -> torch.Tensor | None:
        """What the model's quantizer gave at this marker. given: {quantizer: its output}."""
        quantizer: str = attribute(made.node, "quantizer")
        expected = given.get(quantizer)
        if expected is None or expected.shape != made.value.shape:
            self._tallies[quantizer].add_other_shape(made.value.numel())
            return None
        expected = expected.cpu().to(made.value.dtype)
        self._tallies[quantizer].add(((made.value - expected) / self._scales[made.name]).numpy())
        return expected

    @property
    def error(self) -> float:
        """Median over the images of |captured - trained| / max |trained|."""
        return float(np.median(np.concatenate(self._errors)))

    def layers(self) -> tuple[LayerParity, ...]:
        """One entry for each use of a quantizer and each output, of the batches whose outputs differed."""
        return tuple(tally.result(name) for name, tally in self._tallies.items())


def capture_error(captured: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """|captured - trained| / max |trained| of each image, [N]."""
    if captured.shape != expected.shape:
        raise QuantizationError(
            f"the bundle's network has outputs of shape {list(captured.shape)}, the model of {list(expected.shape)}: "
            "is it another model's bundle?"
        )
    largest = max(float(np.abs(expected).max()), SMALLEST)
    if captured.dtype.kind != "f":
        captured, expected = captured.astype(np.float64), expected.astype(np.float64)
    difference = np.atleast_1d(np.abs(captured - expected))
    return np.asarray(difference.reshape(len(difference), -1).max(axis=1) / largest)
