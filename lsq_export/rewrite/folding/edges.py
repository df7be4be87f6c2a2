"""edges: every tensor that integer operators exchange gets a grid; where training learned none, an 8-bit one from
calibration data.

    x read by an arithmetic operator, by several readers, or by the outside   =>   FakeQuantize(x; 0 … 255, kind edge)
    FakeQuantize(Add(…); low-bit grid)   =>   FakeQuantize(FakeQuantize(Add(…); edge); low-bit grid)

An edge that one learned low-bit grid alone reads takes its grid from that: the same range, as fine as 256 codes allow
(calib.folding.edge_grid.aligned_grid). A learned grid stays alone where its codes can be made in one step: behind a
Conv or Gemm (whose bias carries the offset, E3); behind anything, if its offset is a multiple of its scale, or at 8
bits, where moving the grid onto an integer zero point costs at most half a step of 1/255. A Gemm that is an output of
the network needs no grid: its int32 accumulator is the output."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir
import torch

from calib.errors import QuantizationError
from calib.folding.containers import CONTAINER_MAX, integral_zero_point, widen_to_zero
from calib.folding.edge_grid import EdgeGrid, aligned_grid, edge_grid
from calib.statistics.observers import Observer, finite_range
from lsq_export.graph.build import (
    MARKER,
    MARKER_DOMAIN,
    attribute,
    clean,
    constant,
    insert_after,
    is_marker,
    is_op,
    single_consumer,
)
from lsq_export.graph.evaluate import evaluate
from lsq_export.graph.islands import inside_island
from lsq_export.rewrite.normalizing.normalize import CLAMPS, CODE_PRESERVING, LINEAR

from .clamps import absorb_clamps, clamp_bounds, grid_of
from .integer_offsets import asks_for_data
from .scaling import factor_of, scalar_operand
from .softmax import is_softmax, softmax_grid
from .tanh import GRID, is_tanh


def place_edges(model: ir.Model, batches: Iterable[torch.Tensor]) -> dict[str, Observer]:
    """Insert edge markers, calibrate them on the batches ([N, …] each) in one pass of float evaluation, absorb clamps
    into them.

    Returns {quantizer: what its input looked like} of the learned grids of fewer than 8 bits for which the fold
    "integer" asks that."""
    graph = model.graph
    edges = [_insert_edge(graph, value) for value in _values(graph) if _needs_edge(value)]
    clean(model)
    learned = [node for node in graph if is_marker(node) and node not in edges and attribute(node, "bits") < 8]
    seen = _calibrate(graph, edges, learned, batches)
    absorb_clamps(model)
    return seen


def _values(graph: ir.Graph) -> list[ir.Value]:
    return [*graph.inputs, *(v for node in graph for v in node.outputs)]


def on_grid(value: ir.Value) -> bool:
    """The value comes from a marker (or what became of it), perhaps through operators that keep codes."""
    node = value.producer()
    if node is not None and is_op(node, *CODE_PRESERVING):
        return node.inputs[0] is not None and on_grid(node.inputs[0])
    scaled = scalar_operand(node) if factor_of(node) is not None else None
    if scaled is not None:
        return on_grid(scaled[0])
    return is_marker(node) or is_op(node, "DequantizeLinear")


def moves_to_integer_zero(marker: ir.Node) -> bool:
    """A learned grid of 8 bits, near enough to zero: its offset may be rounded to a multiple of its scale."""
    try:
        widen_to_zero(grid_of(marker))
    except QuantizationError:
        return False
    return True


def made_in_one_step(marker: ir.Node) -> bool:
    """Any operator makes the codes of this learned grid: its integer zero point costs nothing, or next to nothing."""
    return moves_to_integer_zero(marker) or integral_zero_point(grid_of(marker)) is not None


def _needs_edge(value: ir.Value) -> bool:
    producer = value.producer()
    if on_grid(value) or not (value.uses() or value.is_graph_output()):
        return False
    linear = producer is not None and is_op(producer, *LINEAR)
    if value.is_graph_output() and not value.uses():
        return not is_op(producer, "Gemm")
    if inside_island(value):
        return False
    if not single_consumer(value) or is_tanh(value) or is_softmax(value):
        return True
    (reader,) = value.consumers()
    if is_marker(reader):
        return not linear and (factor_of(producer) is not None or not made_in_one_step(reader))
    return not is_op(reader, *CLAMPS, *CODE_PRESERVING) and factor_of(reader) is None


def _insert_edge(graph: ir.Graph, value: ir.Value) -> ir.Node:
    """value => FakeQuantize(value), without a grid yet: float evaluation passes it through."""
    producer = value.producer()
    name = f"{producer.name}.output" if producer is not None else str(value.name)
    attributes = {"qmin": 0, "qmax": CONTAINER_MAX, "bits": 8, "kind": "edge", "axis": -1, "quantizer": name}
    marked = insert_after(value, graph, MARKER, [value], f"{value.name}_edge", domain=MARKER_DOMAIN, **attributes)
    marker = marked.producer()
    assert marker is not None
    for reader, index in list(value.uses()):
        if reader is not marker:
            reader.replace_input_with(index, marked)
    for index, output in enumerate(graph.outputs):
        if output is value:
            graph.outputs[index] = marked
            marked.name, value.name = value.name, f"{value.name}_float"  # the outside keeps the name it knows
    return marker


def _calibrate(
    graph: ir.Graph, edges: list[ir.Node], learned: list[ir.Node], batches: Iterable[torch.Tensor]
) -> dict[str, Observer]:
    aligned = {edge: grid for edge in edges if (grid := _aligned(edge)) is not None}
    observers: dict[str | None, Observer] = {
        edge.outputs[0].name: Observer(attribute(edge, "quantizer")) for edge in edges if edge not in aligned
    }
    inputs: dict[str | None, set[str]] = {}
    statistics: dict[str, Observer] = {}
    for node in learned:
        if node.inputs[0] is not None:
            name = attribute(node, "quantizer")
            inputs.setdefault(node.inputs[0].name, set()).add(name)
            if asks_for_data(node):
                statistics[name] = Observer(name)
    seen = 0

    def observe(name: str, value: torch.Tensor) -> None:
        if name in observers:
            observers[name].update(value)
        for quantizer in inputs.get(name, ()):
            if quantizer in statistics:
                statistics[quantizer].update(value)
            elif value.numel():
                finite_range(quantizer, value)

    for batch in batches:
        seen += len(batch)
        evaluate(graph, batch, dtype=torch.float32, on_value=observe)
    if not seen:
        raise QuantizationError("calibration data is empty: pass at least one batch of inputs (calibration=…)")
    for edge in edges:
        x, (low, high) = edge.inputs[0], _clamp_in_front(edge)
        if edge in aligned:
            grid = aligned[edge]
        else:
            grid = edge_grid(
                observers[edge.outputs[0].name].points(),
                low=low,
                high=high,
                keep_range=edge.outputs[0].is_graph_output(),
            )
        grid = GRID if is_tanh(x) else softmax_grid(grid, x) if x is not None and is_softmax(x) else grid
        name = attribute(edge, "quantizer")
        scale, offset = (
            constant(graph, f"{name}.edge_scale", np.float32(grid.scale)),
            constant(graph, f"{name}.edge_offset", np.float64(grid.offset)),
        )
        edge.resize_inputs(3)
        edge.replace_input_with(1, scale)
        edge.replace_input_with(2, offset)
    return statistics


def _aligned(edge: ir.Node) -> EdgeGrid | None:
    readers = list(edge.outputs[0].consumers())
    alone = single_consumer(edge.outputs[0]) and is_marker(readers[0]) and attribute(readers[0], "bits") < 8
    return aligned_grid(grid_of(readers[0])) if alone else None


def _clamp_in_front(edge: ir.Node) -> tuple[float, float]:
    """Bounds of the clamps that absorb_clamps will put into this edge."""
    low, high, value = -np.inf, np.inf, edge.inputs[0]
    while value is not None and single_consumer(value):
        node = value.producer()
        if node is not None and is_op(node, *CLAMPS):
            bounds = clamp_bounds(node)
            low, high = max(low, bounds[0]), min(high, bounds[1])
        elif node is None or not is_op(node, *CODE_PRESERVING):
            break
        value = node.inputs[0]
    return low, high
