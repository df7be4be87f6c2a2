"""clamps: a clamp before a grid becomes a clamp of codes, and grids move to the other side of operators that move
codes.

    FakeQuantize(Relu(x); n … p)     =>  FakeQuantize(x; code(0) … p)                    (E10)
    FakeQuantize(Clip(x, a, b); …)   =>  FakeQuantize(x; code(a) … code(b))              (E10)
    FakeQuantize(MaxPool(x))         =>  MaxPool(FakeQuantize(x))                        (rounding is monotone)
    FakeQuantize(Reshape(x))         =>  Reshape(FakeQuantize(x)), Flatten, Transpose and the like
    FakeQuantize(Mul(x, α))          =>  Mul(FakeQuantize(x), α)                         (edges, scaling.py)

All exact. Fires only where the marker is the one reader of the clamp or of the operator, and, with a Slice, where
nobody reads the rest.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from calib.errors import QuantizationError
from calib.folding.containers import narrow
from lsq_export.graph.edit import clean, insert, make, replace
from lsq_export.graph.grids import grid_of, is_edge, quantizer_of
from lsq_export.graph.notes import PASSED
from lsq_export.graph.operators import CLAMPS, MOVES, OPERATORS
from lsq_export.graph.read import array_of, graph_of, input_of, is_marker, is_op, maker_of, single_consumer
from lsq_export.rewrite.contract.conditions import FROZEN_WEIGHTS, NO_BATCH_NORMS
from lsq_export.rewrite.contract.passes import Keeps, Pass, stateless

from .pads import is_constant_pad, pad_value, pads_after, quantized, set_pad_value
from .scaling import factor_of, hoist_edge


def absorb_clamps(model: ir.Model) -> None:
    todo = [node for node in model.graph if is_marker(node)]
    while todo:
        marker = todo.pop()
        x = input_of(marker)
        producer = x.producer()
        if producer is None or not single_consumer(x):
            continue
        if is_op(producer, *CLAMPS):
            _absorb(marker, producer)
            todo.append(marker)
        elif is_op(producer, *MOVES) and not _has_siblings(producer):
            todo.append(_hoist(marker, producer))
        elif factor_of(producer) is not None and is_edge(marker):
            todo.append(hoist_edge(marker, producer))
    clean(model)


def clamp_bounds(clamp: ir.Node) -> tuple[float, float]:
    """(low, high) of a Relu or Clip, infinite where there is no bound."""
    if clamp.op_type == "Relu":
        return 0.0, np.inf
    bounds = [array_of(clamp.inputs[i]) if i < len(clamp.inputs) else None for i in (1, 2)]
    low = -np.inf if bounds[0] is None else bounds[0].item()
    high = np.inf if bounds[1] is None else bounds[1].item()
    if np.isnan(low) or np.isnan(high) or low > high:
        raise QuantizationError(f"{clamp.name}: a clamp to {low} … {high} is empty")
    return low, high


def _has_siblings(mover: ir.Node) -> bool:
    """A slice whose source others read as well: they have grids of their own."""
    return OPERATORS[mover.op_type].picks and not single_consumer(input_of(mover))


def _absorb(marker: ir.Node, clamp: ir.Node) -> None:
    name, (low, high) = quantizer_of(marker), clamp_bounds(clamp)
    try:
        grid = narrow(grid_of(marker), low, high)
    except QuantizationError as error:
        raise error if str(error).startswith(name) else QuantizationError(f"{name}: {error}") from error
    for pad in pads_after(marker.outputs[0]):
        value = pad_value(pad)
        if not grid.qmin <= int(grid_of(marker).codes(np.float64(value))) <= grid.qmax:
            raise QuantizationError(
                f"{pad.name}: a Pad with {value:g} after a clamp to {low:g} … {high:g} has no exact form; pad first"
            )
    marker.attributes["qmin"] = ir.AttrInt64("qmin", grid.qmin)
    marker.attributes["qmax"] = ir.AttrInt64("qmax", grid.qmax)
    marker.replace_input_with(0, clamp.inputs[0])
    graph_of(clamp).remove(clamp, safe=True)  # its input has one reader less: the marker may move on


def _hoist(marker: ir.Node, mover: ir.Node) -> ir.Node:
    """FakeQuantize(mover(x)) => mover(FakeQuantize(x)); returns the new marker."""
    x, name, graph = input_of(mover), quantizer_of(marker), graph_of(mover)
    inputs = [x, *marker.inputs[1:]]
    hoisted = insert(mover, marker.op_type, inputs, f"{name}.before", domain=marker.domain, shape=x.shape)
    node = maker_of(hoisted)
    node.attributes.update(marker.attributes)
    shape = mover.outputs[0].shape
    moved = make(mover.op_type, [hoisted, *mover.inputs[1:]], f"{name}.{mover.op_type}", shape=shape)
    moved.attributes.update(mover.attributes)
    PASSED.write(moved, (name, *PASSED.get(mover, ())))
    if is_constant_pad(moved):
        set_pad_value(graph, moved, quantized(grid_of(marker), pad_value(mover)))
    graph.insert_before(mover, moved)
    replace(marker.outputs[0], moved.outputs[0])
    graph.remove([marker, mover], safe=True)
    return node


PASS = Pass("absorb_clamps", stateless(absorb_clamps), Keeps.ROUNDED, requires=(FROZEN_WEIGHTS, NO_BATCH_NORMS))
