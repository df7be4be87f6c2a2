"""clamps: a clamp in front of a grid becomes a clamp of codes, and grids move in front of operators that keep codes.

    FakeQuantize(Relu(x); n … p)     =>  FakeQuantize(x; code(0) … p)                    (E10)
    FakeQuantize(Clip(x, a, b); …)   =>  FakeQuantize(x; code(a) … code(b))              (E10)
    FakeQuantize(MaxPool(x))         =>  MaxPool(FakeQuantize(x))                        (rounding and clamping are monotone)
    FakeQuantize(Reshape(x))         =>  Reshape(FakeQuantize(x)), Flatten, Transpose and the like
    FakeQuantize(Mul(x, α))          =>  Mul(FakeQuantize(x), α)                         (edges, scaling.py)

All exact. Fires only where the marker is the one reader of the clamp or of the operator, and, in front of a Slice,
where nobody reads the rest."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from calib.errors import QuantizationError
from calib.folding.containers import narrow
from calib.grid import Grid
from lsq_export.graph.build import (
    array_of,
    attribute,
    clean,
    constant_of,
    insert,
    is_marker,
    is_op,
    make,
    replace,
    single_consumer,
)
from lsq_export.rewrite.normalizing.normalize import CLAMPS, CODE_PRESERVING, PICKING

from .pads import is_constant_pad, pad_value, pads_behind, quantized, set_pad_value
from .scaling import factor_of, hoist_edge

PASSED = ":"  # "b.input:a.input:Flatten" is a Flatten that a.input moved in front of, and then b.input


def movers_passed(graph: ir.Graph, quantizer: str) -> list[ir.Node]:
    """The operators that this quantizer's grid moved in front of, in order."""
    return [node for node in graph if is_op(node, *CODE_PRESERVING) and quantizer in str(node.name).split(PASSED)[:-1]]


def absorb_clamps(model: ir.Model) -> None:
    graph = model.graph
    todo = [node for node in graph if is_marker(node)]
    while todo:
        marker = todo.pop()
        x = marker.inputs[0]
        assert x is not None
        producer = x.producer()
        if producer is None or not single_consumer(x):
            continue
        if is_op(producer, *CLAMPS):
            _absorb(marker, producer)
            todo.append(marker)
        elif is_op(producer, *CODE_PRESERVING) and not _has_siblings(producer):
            todo.append(_hoist(marker, producer))
        elif factor_of(producer) is not None and attribute(marker, "kind") == "edge":
            todo.append(hoist_edge(marker, producer))
    clean(model)


def grid_of(marker: ir.Node) -> Grid:
    """The trained grid of a calibrated marker; errors name the quantizer."""
    name = attribute(marker, "quantizer")
    scale, offset = (float(constant_of(v, name).reshape(())) for v in marker.inputs[1:3])
    try:
        return Grid(scale, offset, attribute(marker, "qmin"), attribute(marker, "qmax"))
    except QuantizationError as error:
        raise QuantizationError(f"{name}: {error}") from error


def clamp_bounds(clamp: ir.Node) -> tuple[float, float]:
    """(low, high) of a Relu or Clip, infinite where there is no bound."""
    if clamp.op_type == "Relu":
        return 0.0, np.inf
    bounds = [array_of(clamp.inputs[i]) if i < len(clamp.inputs) else None for i in (1, 2)]
    low, high = (-np.inf if bounds[0] is None else bounds[0].item(), np.inf if bounds[1] is None else bounds[1].item())
    if np.isnan(low) or np.isnan(high) or low > high:
        raise QuantizationError(f"{clamp.name}: a clamp to {low} … {high} is empty")
    return low, high


def _has_siblings(mover: ir.Node) -> bool:
    """A slice whose source others read as well: they have grids of their own."""
    x = mover.inputs[0]
    return is_op(mover, *PICKING) and x is not None and not single_consumer(x)


def _absorb(marker: ir.Node, clamp: ir.Node) -> None:
    name = attribute(marker, "quantizer")
    try:
        grid = narrow(grid_of(marker), *clamp_bounds(clamp))
    except QuantizationError as error:
        raise error if str(error).startswith(name) else QuantizationError(f"{name}: {error}") from error
    low, high = clamp_bounds(clamp)
    for pad in pads_behind(marker.outputs[0]):
        if not grid.qmin <= int(grid_of(marker).codes(np.float64(pad_value(pad)))) <= grid.qmax:
            raise QuantizationError(
                f"{pad.name}: a Pad with {pad_value(pad):g} behind a clamp to {low:g} … {high:g} has no exact form; "
                "pad first"
            )
    marker.attributes["qmin"] = ir.AttrInt64("qmin", grid.qmin)
    marker.attributes["qmax"] = ir.AttrInt64("qmax", grid.qmax)
    marker.replace_input_with(0, clamp.inputs[0])
    assert clamp.graph is not None
    clamp.graph.remove(clamp, safe=True)  # its input has one reader less: the marker may move on


def _hoist(marker: ir.Node, mover: ir.Node) -> ir.Node:
    """FakeQuantize(mover(x)) => mover(FakeQuantize(x)); returns the new marker."""
    x = mover.inputs[0]
    assert x is not None and mover.graph is not None
    name = attribute(marker, "quantizer")
    hoisted = insert(
        mover, marker.op_type, [x, *marker.inputs[1:]], f"{name}.before", domain=marker.domain, shape=x.shape
    )
    node = hoisted.producer()
    assert node is not None
    node.attributes.update(marker.attributes)
    called = str(mover.name) if PASSED in str(mover.name) else mover.op_type
    moved = make(mover.op_type, [hoisted, *mover.inputs[1:]], f"{name}{PASSED}{called}", shape=mover.outputs[0].shape)
    moved.attributes.update(mover.attributes)
    if is_constant_pad(moved):
        set_pad_value(mover.graph, moved, quantized(grid_of(marker), pad_value(mover)))
    mover.graph.insert_before(mover, moved)
    replace(marker.outputs[0], moved.outputs[0])
    mover.graph.remove([marker, mover], safe=True)
    return node
