"""Codes that are moved before anybody makes values of them, as QOperator files have it:

    DequantizeLinear(Reshape(QuantizeLinear(x)))     =>  Reshape(DequantizeLinear(QuantizeLinear(x)))
    DequantizeLinear(MaxPool(QuantizeLinear(x)))     =>  MaxPool(DequantizeLinear(QuantizeLinear(x)))

Exact: a scale is positive, so what moves or compares codes does the same to the values that they stand for. A Pad adds
the value of the code that it added. Grids then are pairs, which become markers (markers.py).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import constant, insert_after, make, replace
from lsq_export.graph.read import array_of, attribute

from .grids import DEQUANTIZE, QUANTIZE, FileGrid, grid_of, is_grid

MOVERS = (
    *("DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Pad", "Reshape", "Resize", "Slice"),
    *("SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
)
PAD_VALUE = 2  # input of Pad


def move_values(graph: ir.Graph) -> None:
    """In place; operators on codes that nobody reads any more stay."""
    for node in list(graph):
        grid = grid_of(node) if is_grid(node, QUANTIZE) else None
        if grid is None or not grid.per_tensor:
            continue
        for codes in (node.outputs[0], *(r.outputs[0] for r in node.outputs[0].consumers() if r.op_type == "Clip")):
            if not any(_leads_to_values(mover, grid) for mover in _movers(codes)):
                continue
            name, parts = f"{codes.name}_values", [codes, *node.inputs[1:]]
            values = insert_after(codes, graph, DEQUANTIZE, parts, name, domain=node.domain)
            values.type = ir.TensorType(ir.DataType.FLOAT)
            _move(graph, codes, values, grid)


def _movers(codes: ir.Value) -> Iterator[ir.Node]:
    """Operators that read the codes first and move them."""
    for reader in dict.fromkeys(codes.consumers()):
        if reader.op_type not in MOVERS or reader.domain not in ("", "ai.onnx") or reader.inputs[0] is not codes:
            continue
        nearest = reader.op_type != "Resize" or attribute(reader, "mode", "nearest") == "nearest"
        plain = reader.op_type != "Pad" or (len(reader.inputs) < PAD_VALUE + 2 and _pads_with(reader) is not None)
        if nearest and plain and (reader.op_type == "Split" or len(reader.outputs) == 1):
            yield reader


def _pads_with(pad: ir.Node) -> int | None:
    """The code that a Pad adds; 0 where it repeats others; None where that is computed."""
    given = pad.inputs[PAD_VALUE] if len(pad.inputs) > PAD_VALUE else None
    array = np.zeros(1) if given is None else array_of(given)
    return None if array is None else int(array.reshape(-1)[0])


def _makes_values(reader: ir.Node, grid: FileGrid) -> bool:
    there = grid_of(reader) if is_grid(reader, DEQUANTIZE) else None
    return there is not None and grid.same_steps(there)


def _leads_to_values(mover: ir.Node, grid: FileGrid) -> bool:
    return any(
        any(_makes_values(reader, grid) for reader in moved.consumers())
        or any(_leads_to_values(further, grid) for further in _movers(moved))
        for moved in mover.outputs
    )


def _move(graph: ir.Graph, codes: ir.Value, values: ir.Value, grid: FileGrid) -> None:
    """Do to the values what is done to the codes, up to where others make values of the codes."""
    for mover in list(_movers(codes)):
        if not _leads_to_values(mover, grid):
            continue
        twin = _twin(graph, mover, values, grid)
        graph.insert_after(mover, twin)
        for moved, made in zip(mover.outputs, twin.outputs, strict=True):
            for reader in [reader for reader in moved.consumers() if _makes_values(reader, grid)]:
                replace(reader.outputs[0], made)
            _move(graph, moved, made, grid)


def _twin(graph: ir.Graph, mover: ir.Node, values: ir.Value, grid: FileGrid) -> ir.Node:
    inputs = [values, *mover.inputs[1:]]
    if mover.op_type == "Pad" and attribute(mover, "mode", "constant") == "constant":
        code = _pads_with(mover)
        assert code is not None
        value = np.float32((code - int(grid.zero_point[0])) * float(grid.scale[0]))
        inputs[PAD_VALUE:] = [constant(graph, f"{mover.name}.value", value)]
    if len(mover.outputs) == 1:
        twin = make(mover.op_type, inputs, f"{mover.outputs[0].name}_values", shape=mover.outputs[0].shape)
    else:
        made = [ir.val(f"{y.name}_values", dtype=ir.DataType.FLOAT, shape=y.shape) for y in mover.outputs]
        twin = ir.node(mover.op_type, inputs, outputs=made)
    twin.attributes.update(mover.attributes)
    twin.name = mover.name
    return twin
