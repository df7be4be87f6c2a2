"""around_zero: codes of the fold "symmetric" without a zero point but the middle of the container.

    q = Clip(QuantizeLinear(t; s, z), 0, p) -> DequantizeLinear(s, 1) -> QuantizeLinear(s/k, o + k)
        =>  Clip(QuantizeLinear(t; s, 128), 128 - z, 128 - z + p) -> DequantizeLinear(s, 128)
              -> Add((o - 128 + k·z)·s/k) -> QuantizeLinear(s/k, 128)
    DequantizeLinear(stored c; S, Z)  =>  DequantizeLinear(c - Z + 128; S, 128)

The codes of the last QuantizeLinear are k·q + o in both, and what DequantizeLinear makes of them and of what is stored
is the same. `float_clips` and `int8_codes` make zero points of 0 of it then, for receivers without others.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from calib.folding.symmetric import MIDDLE
from lsq_export.graph.edit import clean, constant, insert
from lsq_export.graph.grids import grid_of_codes
from lsq_export.graph.read import array_of, constant_of, input_of, is_op, sole_producer


def around_zero(model: ir.Model) -> None:
    """In a QDQ graph."""
    graph = model.graph
    middle = constant(graph, "middle", np.uint8(MIDDLE))
    for node in list(graph):
        if is_op(node, "QuantizeLinear") and (chain := _spread_before(node)) is not None:
            _center(graph, node, chain, middle)
        elif is_op(node, "DequantizeLinear") and array_of(node.inputs[0]) is not None:
            _center_stored(graph, node, middle)
    clean(model)


Chain = tuple[ir.Node, ir.Node, ir.Node]  # QuantizeLinear, Clip, DequantizeLinear


def _spread_before(node: ir.Node) -> Chain | None:
    steps = sole_producer(node.inputs[0], "DequantizeLinear")
    clip = sole_producer(steps.inputs[0], "Clip") if steps is not None else None
    quantize = sole_producer(clip.inputs[0], "QuantizeLinear") if clip is not None else None
    if steps is None or clip is None or quantize is None:
        return None
    return (quantize, clip, steps) if grid_of_codes(steps)[1] == 1 else None


def _center(graph: ir.Graph, node: ir.Node, chain: Chain, middle: ir.Value) -> None:
    quantize, clip, steps = chain
    name, (scale, zero_point) = str(node.outputs[0].name), grid_of_codes(quantize)
    fine, target = grid_of_codes(node)
    stride = round(scale / fine)
    by = (target - stride - MIDDLE + stride * zero_point) * fine
    for index in (1, 2):
        bound = int(constant_of(clip.inputs[index], name)) - zero_point + MIDDLE
        clip.replace_input_with(index, constant(graph, f"{name}.bound", np.uint8(bound)))
    for grid in (quantize, steps, node):
        grid.replace_input_with(2, middle)
    for made in (quantize.outputs[0], clip.outputs[0]):  # other codes than those that the fold names so
        made.name = f"{made.name}.centered"
    if by:
        x = input_of(node)
        moved = insert(
            node, "Add", [x, constant(graph, f"{name}.offset", np.float32(by))], f"{name}.moved", shape=x.shape
        )
        node.replace_input_with(0, moved)


def _center_stored(graph: ir.Graph, node: ir.Node, middle: ir.Value) -> None:
    """A constant beside what is computed; one that does not fit stays."""
    stored, name = constant_of(node.inputs[0], str(node.name)), str(node.name)
    zero_point = array_of(node.inputs[2]) if len(node.inputs) > 2 else None
    if stored.dtype != np.uint8 or zero_point is None or zero_point.size != 1:
        return
    codes = stored.astype(np.int64) - int(zero_point) + MIDDLE
    if codes.min() >= 0 and codes.max() <= np.iinfo(np.uint8).max:
        node.replace_input_with(0, constant(graph, f"{name}.centered", codes.astype(np.uint8)))
        node.replace_input_with(2, middle)
