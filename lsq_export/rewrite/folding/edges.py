"""edges: every tensor that integer operators exchange gets a grid; where training learned none, an 8-bit one from data.

    x read by an arithmetic operator, by several readers, or by the outside   =>   FakeQuantize(x; 0 … 255, kind edge)
    FakeQuantize(Add(…); low-bit grid)   =>   FakeQuantize(FakeQuantize(Add(…); edge); low-bit grid)

An edge that one learned low-bit grid alone reads takes its grid from that: the same range, as fine as 256 codes allow
(calib.folding.edge_grid.aligned_grid). A learned grid stays alone where its codes can be made in one step: after a Conv
or Gemm (whose bias carries the offset, E3); after anything, if its offset is a multiple of its scale, or at 8 bits,
where moving the grid onto an integer zero point costs at most half a step of 1/255. A Gemm that is an output of the
network, also after operators that move its elements, needs no grid: its int32 accumulator is the output, unless codes
are wished there (GRIDDED). Nor does an output that a float operator makes, nor a Gemm that only layer norms and
functions in float that are flat below zero read, and grids these (`is_rectifier`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import onnx_ir as ir

from calib.errors import QuantizationError
from calib.folding.containers import CONTAINER_MAX, integral_zero_point, widen_to_zero
from calib.statistics.observers import Observer
from lsq_export.graph.edit import clean, copy, insert_after
from lsq_export.graph.grids import grid_of, is_edge
from lsq_export.graph.islands import inside_island, is_island, is_rectifier
from lsq_export.graph.layers import is_linear
from lsq_export.graph.notes import GRIDDED
from lsq_export.graph.operators import CLAMPS, MOVES
from lsq_export.graph.read import (
    MARKER,
    MARKER_DOMAIN,
    attribute,
    data_readers,
    data_uses,
    graph_of,
    is_float,
    is_marker,
    is_op,
    maker_of,
    single_consumer,
)
from lsq_export.rewrite.contract.conditions import FROZEN_WEIGHTS, NO_BATCH_NORMS, Condition
from lsq_export.rewrite.contract.passes import Keeps, Pass, State

from .calibrate_edges import calibrate
from .clamps import absorb_clamps
from .output_tails import moves_only
from .scaling import factor_of, scalar_operand
from .softmax import is_softmax
from .tanh import is_tanh, on_its_grid
from .unlike import keep_small_addends, warn_of_lost_parts

NORM_SUMS = ("Add", "LayerNormalization", *MOVES)  # norms, and the float sums and moves between them


def place_edges(model: ir.Model, batches: Iterable[Any], observer: type[Observer] = Observer) -> dict[str, Observer]:
    """Insert edge markers, calibrate them on batches ([N, …] each) in one pass of evaluation, absorb clamps into them.

    Returns {quantizer: what its input looked like} of the learned grids of fewer than 8 bits for which the fold
    "integer" asks that.
    """
    graph = model.graph
    edges = [_insert_edge(graph, value) for value in _values(graph) if _needs_edge(value)]
    _check_outputs(graph)
    clean(model)
    learned = [node for node in graph if is_marker(node) and node not in edges and attribute(node, "bits") < 8]
    statistics = calibrate(graph, edges, learned, batches, observer)
    keep_small_addends(graph, edges)
    clean(model)
    warn_of_lost_parts([node for node in edges if node.graph is not None])
    absorb_clamps(model)
    return statistics


def _check_outputs(graph: ir.Graph) -> None:
    """Errors (QuantizationError): codes are wished of an output that stays float."""
    for value in graph.outputs if GRIDDED.get(graph, False) else ():
        if not on_grid(value):
            made = f"made by {producer.op_type}" if (producer := value.producer()) is not None else "an input"
            raise QuantizationError(f"output {value.name} is {made} and stays float: export without quantized outputs")


def _values(graph: ir.Graph) -> list[ir.Value]:
    return [*graph.inputs, *(v for node in graph for v in node.outputs)]


def on_grid(value: ir.Value) -> bool:
    """The value comes from a marker (or what became of it), perhaps through operators that move codes."""
    node = value.producer()
    if node is not None and is_op(node, *MOVES):
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
    if not is_float(value) or on_grid(value) or not (data_uses(value) or value.is_graph_output()):
        return False
    if value.is_graph_output() and not data_uses(value):
        return not is_island(producer) and (not is_op(producer, "Gemm") or _gives_codes(producer))
    if inside_island(value) or (is_op(producer, "Gemm") and for_floats(value)):
        return False
    if not single_consumer(value):
        return not _from_norm(value)
    (reader,) = data_readers(value)
    if is_softmax(value):
        return not (is_marker(reader) and made_in_one_step(reader))
    if is_op(producer, "Gemm") and moves_only(reader):
        return False
    if is_tanh(value):
        return not (is_marker(reader) and on_its_grid(reader))
    if is_marker(reader):
        return not is_linear(producer) and (factor_of(producer) is not None or not made_in_one_step(reader))
    return not is_op(reader, *CLAMPS, *MOVES) and factor_of(reader) is None


def _gives_codes(producer: ir.Node | None) -> bool:
    """Whether outputs shall have grids, of a layer whose accumulators would do otherwise."""
    return producer is not None and GRIDDED.get(graph_of(producer), False)


def for_floats(value: ir.Value) -> bool:
    """Whether layer norms and rectifiers that stay float alone read the value, and float sums and moves before them."""
    readers = data_readers(value)
    return (
        bool(readers)
        and not value.is_graph_output()
        and all((is_island(r) and r.op_type in NORM_SUMS) or is_rectifier(r) for r in readers)
    )


def _from_norm(value: ir.Value) -> bool:
    """Made by a norm or by float operators after it, and read by others and by grids whose codes one step makes.

    What residual sums read of it stays float. Other islands can be tables, which need the grid.
    """
    readers = data_readers(value)
    return (
        is_island(value.producer())
        and maker_of(value).op_type in NORM_SUMS
        and not value.is_graph_output()
        and all(made_in_one_step(reader) if is_marker(reader) else is_island(reader) for reader in readers)
    )


def _insert_edge(graph: ir.Graph, value: ir.Value) -> ir.Node:
    """value => FakeQuantize(value), without a grid yet: float evaluation passes it through."""
    producer = value.producer()
    name = f"{producer.name}.output" if producer is not None else str(value.name)
    attributes = {"qmin": 0, "qmax": CONTAINER_MAX, "bits": 8, "kind": "edge", "axis": -1, "quantizer": name}
    marked = insert_after(value, graph, MARKER, [value], f"{value.name}_edge", domain=MARKER_DOMAIN, **attributes)
    marker = maker_of(marked)
    for reader, index in data_uses(value):
        if reader is not marker:
            reader.replace_input_with(index, marked)
    for index, output in enumerate(graph.outputs):
        if output is value:
            graph.outputs[index] = marked
            marked.name, value.name = value.name, f"{value.name}_float"  # the outside keeps the name it knows
    return marker


def _lacks_grid(node: ir.Node) -> bool:
    return any(_needs_edge(value) and not all(map(_is_edge_marker, value.consumers())) for value in node.outputs)


def _is_edge_marker(node: ir.Node) -> bool:
    return is_marker(node) and is_edge(node)


def _run(model: ir.Model, state: State) -> None:
    state.before_edges = copy(model)
    state.statistics = place_edges(model, state.batches, state.observer)


EVERY_VALUE_ON_A_GRID = Condition("every tensor that integer operators exchange is on a grid", _lacks_grid)
PASS = Pass(
    "place_edges",
    _run,
    Keeps.NOTHING,
    because="edges round tensors for which training learned no grid",
    requires=(FROZEN_WEIGHTS, NO_BATCH_NORMS),
    ensures=(EVERY_VALUE_ON_A_GRID,),
)
