"""The grids of edges, from calibration data: one pass of float evaluation, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from calib.errors import QuantizationError
from calib.folding.containers import CONTAINER_MAX, integral_zero_point
from calib.folding.edge_grid import TANH, EdgeGrid, aligned_grid, edge_grid
from calib.statistics.observers import Observer, finite_range
from calib.workers import Run, workers
from lsq_export.graph.edit import constant
from lsq_export.graph.evaluate import evaluate
from lsq_export.graph.grids import grid_of, quantizer_of
from lsq_export.graph.operators import CLAMPS, MOVES
from lsq_export.graph.read import attribute, constant_of, input_of, is_marker, is_op, producer_of, single_consumer

from .clamps import clamp_bounds
from .integer_offsets import asks_for_data
from .softmax import is_softmax, softmax_grid
from .tanh import is_tanh

GATHERING = ("Erf", "Sin", "Cos")  # functions of which many values lie next to 1 and -1
WAITING = 1 << 26  # numbers that wait for their observers at most, 256 MB


def calibrate(
    graph: ir.Graph,
    edges: list[ir.Node],
    learned: list[ir.Node],
    batches: Iterable[Any],
    observer: type[Observer] = Observer,
) -> dict[str, Observer]:
    """Give edges their grids. Returns {quantizer: what its input looked like} of the learned grids that ask for it.

    observer: collects the statistics.

    Errors (QuantizationError): no batches, values that are not finite (the quantizer is named).
    """
    aligned = {edge: grid for edge in edges if (grid := _aligned(edge)) is not None}
    observers = {edge: observer(quantizer_of(edge)) for edge in edges if edge not in aligned}
    statistics = {quantizer_of(node): observer(quantizer_of(node)) for node in learned if asks_for_data(node)}
    _observe(graph, batches, observers, learned, statistics)
    for edge in edges:
        _set_grid(graph, edge, _mirrored(edge) or aligned.get(edge) or _observed_grid(edge, observers[edge]))
    return statistics


def _observe(
    graph: ir.Graph,
    batches: Iterable[Any],
    observers: dict[ir.Node, Observer],
    learned: list[ir.Node],
    statistics: dict[str, Observer],
) -> None:
    of_edges = {str(edge.outputs[0].name): observer for edge, observer in observers.items()}
    readers: dict[str, set[str]] = {}  # tensor -> learned quantizers that read it
    for node in learned:
        readers.setdefault(str(input_of(node).name), set()).add(quantizer_of(node))
    images = 0
    with workers() as run:
        waiting = _Waiting(run)

        def observe(name: str, value: torch.Tensor) -> None:
            if name in of_edges:
                waiting.add(of_edges[name], value)
            for quantizer in readers.get(name, ()):
                if quantizer in statistics:
                    waiting.add(statistics[quantizer], value)
                elif value.numel():
                    finite_range(quantizer, value)

        for batch in batches:
            images += len(batch)
            evaluate(graph, batch, dtype=torch.float32, on_value=observe)
            waiting.update()
    if not images:
        raise QuantizationError("calibration data is empty: pass at least one batch of inputs (calibration=…)")


class _Waiting:
    """Tensors that wait for their observers, which then count side by side, each in the order of its tensors."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._tensors: dict[Observer, list[torch.Tensor]] = {}
        self._numbers = 0

    def add(self, observer: Observer, value: torch.Tensor) -> None:
        """The observer will see the value, now if enough wait."""
        self._tensors.setdefault(observer, []).append(value)
        self._numbers += value.numel()
        if self._numbers >= WAITING:
            self.update()

    def update(self) -> None:
        """Observers see what waits for them."""
        tensors, self._tensors, self._numbers = self._tensors, {}, 0
        self._run([partial(_update, observer, values) for observer, values in tensors.items()])


def _update(observer: Observer, values: list[torch.Tensor]) -> None:
    for value in values:
        observer.update(value)


def _aligned(edge: ir.Node) -> EdgeGrid | None:
    """The grid of an edge that one learned low-bit grid alone reads."""
    readers = list(edge.outputs[0].consumers())
    alone = single_consumer(edge.outputs[0]) and is_marker(readers[0]) and attribute(readers[0], "bits") < 8
    return aligned_grid(grid_of(readers[0])) if alone else None


def _mirrored(edge: ir.Node) -> EdgeGrid | None:
    """The grid of -α·x, of which the codes are those of x from the other end: nothing is rounded.

    x comes from a grid of 8 bits that holds real zero.
    """
    node = producer_of(input_of(edge))
    if node is None or not is_op(node, "Mul"):
        return None
    for x, operand in (node.inputs, reversed(node.inputs)):
        number, source = producer_of(operand), producer_of(x)
        if source is None or number is None or not (is_marker(source) and is_op(number, "DequantizeLinear")):
            continue
        code, scale, zero_point = (constant_of(v, quantizer_of(edge)) for v in number.inputs)
        grid = grid_of(source).unsigned()
        zero = integral_zero_point(grid)
        if (
            code.size == 1
            and int(code.reshape(())) < int(zero_point)
            and zero is not None
            and grid.qmax == CONTAINER_MAX
        ):
            return EdgeGrid(float(np.float32(grid.scale * float(scale))), CONTAINER_MAX - zero, 0.0)
    return None


def _observed_grid(edge: ir.Node, observer: Observer) -> EdgeGrid:
    low, high = _clamp_before(edge)
    return edge_grid(observer.points(), low=low, high=high, keep_range=edge.outputs[0].is_graph_output())


def _set_grid(graph: ir.Graph, edge: ir.Node, grid: EdgeGrid) -> None:
    x, name = input_of(edge), quantizer_of(edge)
    if is_tanh(x):
        grid = TANH
    elif is_softmax(x):
        grid = softmax_grid(grid, x)
    elif (node := producer_of(x)) is not None and node.op_type in GATHERING:
        grid = _ones_on_codes(grid)
    scale = constant(graph, f"{name}.edge_scale", np.float32(grid.scale))
    offset = constant(graph, f"{name}.edge_offset", np.float64(grid.offset))
    edge.resize_inputs(3)
    edge.replace_input_with(1, scale)
    edge.replace_input_with(2, offset)


def _ones_on_codes(grid: EdgeGrid) -> EdgeGrid:
    """A scale 1/n, of one step in 16 more at most: 1 and -1 are codes, and what lies next to them is on no tie."""
    steps = math.floor(1 / grid.scale)
    return replace(grid, scale=float(np.float32(1 / steps))) if steps >= 16 else grid


def _clamp_before(edge: ir.Node) -> tuple[float, float]:
    """Bounds of the clamps that absorb_clamps will put into this edge."""
    low, high, value = -np.inf, np.inf, edge.inputs[0]
    while value is not None and single_consumer(value):
        node = value.producer()
        if node is not None and is_op(node, *CLAMPS):
            bounds = clamp_bounds(node)
            low, high = max(low, bounds[0]), min(high, bounds[1])
        elif node is None or not is_op(node, *MOVES):
            break
        value = node.inputs[0]
    return low, high
