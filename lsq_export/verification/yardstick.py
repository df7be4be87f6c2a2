"""How the trained network answers to a change of its inputs as small as rounding: the scale for what a fold costs.

The network on inputs that are larger by NUDGE, against itself. Where the grid of the inputs has about the steps of
8-bit pixels, all pixels lie alike on it, and the change flips no code, or next to none, whatever the network makes of
flips. There the same is done with noise of half a step on the images, in both of the runs that are compared.

Tokens cannot be larger. Where a network takes nothing else, the rows of its tables are, and as a norm often follows,
which takes a common factor away, each number by itself is larger or smaller by NUDGE: by the last bit of its float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from calib.samples import Input, each_float
from lsq_export.graph.evaluate import evaluate
from lsq_export.graph.read import array_of, input_of, is_float, is_marker, is_op, producer_of

from .agreement import Agreement
from .class_axis import class_axis
from .far import LIMIT
from .parity import NUDGE


class Yardstick:
    """The trained model against itself, batch by batch."""

    def __init__(self, trained: ir.Model) -> None:
        self._graph = trained.graph
        self._step = input_step(trained.graph)
        self._tables = set() if any(map(is_float, trained.graph.inputs)) else rows_of_tables(trained.graph)
        axis = class_axis(trained.graph)
        self._plain, self._noisy = Agreement(axis), Agreement(axis)

    def on_larger(self, x: Input) -> list[np.ndarray]:
        """Outputs for larger inputs."""
        if not self._tables:
            return self._outputs(larger(x))

        def moved(name: str, value: torch.Tensor) -> torch.Tensor | None:
            return up_or_down(value) if name in self._tables else None

        return [v.numpy() for v in evaluate(self._graph, x, dtype=torch.float32, on_value=moved)]

    def add(self, x: Input, expected: list[np.ndarray]) -> list[np.ndarray]:
        """One batch: outputs for larger inputs. expected: what the same graph makes of the inputs as they are."""
        first, on_larger = self._plain.images, self.on_larger(x)
        self._plain.add(on_larger, expected, None, len(x))
        if self._plain.sqnr_db > LIMIT and self._step:  # next to nothing was flipped up to here
            noisy = each_float(x, lambda tensor: tensor + self._step * _noises(tensor, first))
            self._noisy.add(self._outputs(larger(noisy)), self._outputs(noisy), None, len(x))
        return on_larger

    def result(self) -> Agreement:
        """On the inputs as they are, or with noise where these tell nothing."""
        told = self._plain.sqnr_db <= LIMIT or self._noisy.images < self._plain.images
        return self._plain if told else self._noisy

    def _outputs(self, x: Input) -> list[np.ndarray]:
        return [v.numpy() for v in evaluate(self._graph, x, dtype=torch.float32)]


def larger(x: Any) -> Any:
    """x · (1 + NUDGE); what would overflow stays, and so do integers and masks."""

    def changed(tensor: torch.Tensor) -> torch.Tensor:
        more = tensor * (1 + NUDGE)
        return torch.where(torch.isfinite(more), more, tensor)

    return each_float(x, changed)


def up_or_down(rows: torch.Tensor) -> torch.Tensor:
    """Each number times 1 + NUDGE or 1 - NUDGE, as the last bit of its float32 says: the same in any batch."""
    bits = rows.float().view(torch.int32) & 1
    return rows * (1 + NUDGE * (2 * bits - 1).to(rows.dtype))


def rows_of_tables(graph: ir.Graph) -> set[str]:
    """The values that are rows of constant tables of floats, chosen by what the network computes or is given."""
    return {
        str(node.outputs[0].name)
        for node in graph
        if is_op(node, "Gather")
        and is_float(node.inputs[0])
        and _is_fixed(node.inputs[0])
        and not _is_fixed(node.inputs[1])
    }


def _is_fixed(value: ir.Value | None) -> bool:
    """A constant, or the weight that a marker makes of one."""
    maker = producer_of(value)
    source = input_of(maker) if maker is not None and is_marker(maker) else value
    return array_of(source) is not None


def input_step(graph: ir.Graph) -> float:
    """The step of the input's own grid, the largest of several; 0 where it has none."""
    steps = [0.0]
    for node in graph:
        if is_marker(node) and node.inputs[0] in graph.inputs and len(node.inputs) > 1:
            scale = array_of(node.inputs[1])
            steps.append(0.0 if scale is None else float(np.max(scale)))
    return max(steps)


def _noises(images: torch.Tensor, first: int) -> torch.Tensor:
    """Of images [N, …]. first: the number of the first one."""
    return torch.stack([_noise(images[0], first + index) for index in range(len(images))])


def _noise(image: torch.Tensor, number: int) -> torch.Tensor:
    """-0.5 to 0.5, the same for the image of that number in any batch."""
    return torch.rand(image.shape, generator=torch.Generator().manual_seed(number)) - 0.5
