"""The outputs part by part: a small part of an output is as good as lost where only the whole output is judged.

    output = Concat(boxes · 640, scores)     =>  the parts boxes and scores, each against itself
    output of a layer, [N, C, …]             =>  its channels

Of a part, only what varies counts: its signal is the variance of the trained model's values, so that scores of
0.5 ± 0.01 that all became 0.5 are lost. A part is known by the operator that makes it in the trained graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
import torch

from calib.samples import Input
from lsq_export.graph.evaluate import evaluate
from lsq_export.graph.grids import quantizer_of
from lsq_export.graph.operators import CLAMPS, MOVES
from lsq_export.graph.read import array_of, attribute, input_of, is_marker, is_op, maker_of

from .agreement import decibels, is_numbers
from .part_parity import PartParity

CHANNELS = 4096  # of an output; more of them are not told apart


class OutputParts:
    """The folded model's outputs against the trained one's, batch by batch."""

    def __init__(self, trained: ir.Graph) -> None:
        self._graph = trained
        self._names = [str(output.name) for output in trained.outputs]
        self._through: dict[str, int] = {}  # values that hand on the parts of one operand, and which
        self._parts = [_parts_of(output, self._through) for output in trained.outputs]
        self._labels: dict[tuple[tuple[int, ...], ...], list[np.ndarray]] = {}  # by the shapes of the outputs
        self._sums: dict[int, np.ndarray] = {}  # by output: [parts, 5]

    def add(
        self,
        x: Input,
        folded: Sequence[np.ndarray],
        expected: Sequence[np.ndarray],
        nudged: Sequence[np.ndarray],
        captured: Sequence[np.ndarray],
    ) -> None:
        """One batch. expected: the trained model's outputs. nudged, captured: the yardstick, and what it is held to."""
        shapes = tuple(values.shape for values in expected)
        if shapes not in self._labels:
            self._labels[shapes] = self._labels_for(x, expected)
        for index, labels in enumerate(self._labels[shapes]):
            values = expected[index].astype(np.float64)
            others = (folded[index], nudged[index], captured[index])
            if is_numbers(expected[index]):
                continue  # they are the same or not (agreement.py)
            if not values.size or labels.size != values.size or any(y.shape != values.shape for y in others):
                continue
            errors = (folded[index] - values, nudged[index].astype(np.float64) - captured[index])
            rows = (np.ones_like(values), values, np.square(values), *map(np.square, errors))
            sums = np.stack([np.bincount(labels, row.reshape(-1)) for row in rows], axis=1)
            self._sums[index] = self._sums[index] + sums if index in self._sums else sums

    def _labels_for(self, x: Input, expected: Sequence[np.ndarray]) -> list[np.ndarray]:
        """For each output, which part each element is of, int64 [elements]."""
        numbers = {name: number for parts in self._parts for number, name in enumerate(parts)}
        several = [len(parts) > 1 for parts in self._parts]

        def label(output: ir.Value, inputs: list[torch.Tensor | None], value: torch.Tensor) -> torch.Tensor | None:
            name, node = str(output.name), maker_of(output)
            if name in numbers:
                return torch.full_like(value, numbers[name])
            if is_op(node, "Concat") and any(v is not None and v.producer() is None for v in node.inputs):
                parts = zip(inputs, node.inputs, strict=True)
                known = [_labelled(x, given, numbers) for x, given in parts if x is not None and given is not None]
                return torch.cat(known, dim=attribute(node, "axis"))
            operand = self._through.get(name)
            handed = inputs[operand] if operand is not None else None
            return None if handed is None else torch.broadcast_to(handed, value.shape)

        made = evaluate(self._graph, x, dtype=torch.float64, on_node=label) if any(several) else []
        return [
            made[index].numpy().astype(np.int64).reshape(-1) if several[index] else _channels(values)
            for index, values in enumerate(expected)
        ]

    def result(self) -> tuple[PartParity, ...]:
        """One entry for each part of each output of several, and for each channel of the others."""
        return tuple(
            PartParity(
                output=self._names[index],
                part=list(self._parts[index].values())[number if len(self._parts[index]) > 1 else 0],
                channel=None if len(self._parts[index]) > 1 else number,
                elements=int(row[0]),
                sqnr_db=decibels(row[2] - row[1] ** 2 / row[0], row[3]),
                nudged_sqnr_db=decibels(row[2] - row[1] ** 2 / row[0], row[4]),
            )
            for index, sums in self._sums.items()
            for number, row in enumerate(sums)
            if row[0]
        )


def _labelled(x: torch.Tensor, value: ir.Value, numbers: Mapping[str, int]) -> torch.Tensor:
    """An input of the network, or a constant, that is a part as it is; other values have their labels."""
    number = numbers.get(str(value.name)) if value.producer() is None else None
    return x if number is None else torch.full_like(x, number, dtype=torch.float64)


def _through(node: ir.Node) -> int | None:
    """The input whose parts an operator hands on: clamps, and sums and products with a constant."""
    if is_op(node, *CLAMPS):
        return 0
    computed = [index for index, v in enumerate(node.inputs) if v is not None and array_of(v) is None]
    return computed[0] if is_op(node, "Add", "Mul") and len(computed) == 1 else None


def _parts_of(output: ir.Value, through: dict[str, int]) -> dict[str, str]:
    """{value: what makes it} of what an output is put together of. through: gets what lies between."""
    node = output.producer()
    if node is None:
        return {str(output.name): str(output.name)}
    if is_op(node, "Concat"):
        return {name: made for x in node.inputs if x is not None for name, made in _parts_of(x, through).items()}
    operand = 0 if is_op(node, *MOVES) else _through(node)
    if operand is not None and input_of(node, operand).producer() is not None:
        if not is_op(node, *MOVES):
            through[str(output.name)] = operand
        return _parts_of(input_of(node, operand), through)
    return {str(output.name): quantizer_of(node) if is_marker(node) else str(node.name)}


def _channels(values: np.ndarray) -> np.ndarray:
    """The place along axis 1 of each element of an output [N, C, …]; of others, 0."""
    if values.ndim < 2 or values.shape[1] > CHANNELS:
        return np.zeros(values.size, np.int64)
    shape = [-1 if axis == 1 else 1 for axis in range(values.ndim)]
    return np.broadcast_to(np.arange(values.shape[1]).reshape(shape), values.shape).reshape(-1)
