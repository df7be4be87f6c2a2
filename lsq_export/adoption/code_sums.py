"""Layers that sum codes, as `export` writes them for receivers that compute in floats, get their scales back:

    QuantizeLinear(Clip(Conv(x - z, w - v, b))·M; 1, Z)
        =>  QuantizeLinear(Conv((x - z)·s, (w - v)·s_w, b·s·s_w); S, Z),   s_w = M·S/s

The rule of rewrite/lowering/exact_sums.py, undone. s and S are the scales with which others read the codes, or make
them; codes that layers alone read have none in the file, and any does: they get 1. Clips of values in between get
bounds in their units, and a Round before the grid (round_first.py) goes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import clean, constant, replace
from lsq_export.graph.layers import read_with
from lsq_export.graph.read import array_of, graph_of, input_of, producer_of, single_consumer
from lsq_export.rewrite.lowering.exact_sums import LIMIT, SUMMED

from .grids import DEQUANTIZE, QUANTIZE, grid_of, is_grid
from .moved_codes import MOVERS


def give_scales_back(model: ir.Model) -> None:
    """In place; other layers stay as they are."""
    for node in [node for node in model.graph if node.op_type in SUMMED]:
        multiply = _product_of(node)
        if multiply is not None:
            _give_back(node, multiply)
    clean(model)


def _product_of(node: ir.Node) -> ir.Node | None:
    """The product behind a layer that sums codes."""
    for dequantize in map(producer_of, node.inputs[:2]):
        grid = grid_of(dequantize) if dequantize is not None and is_grid(dequantize, DEQUANTIZE) else None
        if grid is None or (grid.scale != 1).any():
            return None
    clip = _reader(node.outputs[0], "Clip")
    bounds = [array_of(bound) for bound in clip.inputs[1:3]] if clip is not None else []
    if clip is None or [None if b is None else float(b) for b in bounds] != [-LIMIT, LIMIT]:
        return None
    multiply = _reader(clip.outputs[0], "Mul")
    return multiply if multiply is not None and array_of(multiply.inputs[1]) is not None else None


def _reader(value: ir.Value, *op_types: str) -> ir.Node | None:
    """The only reader of a value, if it is such an operator."""
    reader = next(iter(value.consumers()), None) if single_consumer(value) else None
    return reader if reader is not None and reader.op_type in op_types else None


def _give_back(node: ir.Node, multiply: ir.Node) -> None:
    graph, name = graph_of(node), str(node.name)
    behind, quantize = _behind(multiply)
    before = producer_of(node.inputs[0])
    factor = array_of(multiply.inputs[1])
    assert before is not None and before.inputs[0] is not None and factor is not None
    unit = np.ravel(factor).astype(np.float64)
    scale = _scale_of(before.inputs[0])
    after = 1.0 if quantize is None else _scale_of(quantize.outputs[0])
    weights = unit * after / scale
    scales = np.float64(scale), weights if weights.size > 1 else weights.reshape(())
    for index, given in enumerate(scales):
        read_with(node, index, given.astype(np.float32), f"{name}.scale_{index}", f"{name}.values_{index}")
    if len(node.inputs) > 2 and (bias := array_of(node.inputs[2])) is not None:
        values = (bias * scale * weights).astype(np.float32)
        node.replace_input_with(2, constant(graph, f"{name}.bias.values", values))
    for step in behind:
        if step.op_type == "Round":
            replace(step.outputs[0], input_of(step))
            continue
        for index, bound in enumerate(step.inputs[1:], start=1):
            if (steps := array_of(bound)) is not None:
                values = (steps * after).astype(np.float32)
                step.replace_input_with(index, constant(graph, f"{step.name}.bound", values))
    if quantize is not None:
        quantize.replace_input_with(1, constant(graph, f"{name}.next_scale", np.float32(after)))
    replace(multiply.outputs[0], node.outputs[0])


def _behind(multiply: ir.Node) -> tuple[list[ir.Node], ir.Node | None]:
    """(Clips and Rounds behind a product, the QuantizeLinear of scale 1 that they lead to; None: to none)."""
    found: list[ir.Node] = []
    value = multiply.outputs[0]
    while (reader := _reader(value, "Clip", "Round", QUANTIZE)) is not None and reader.op_type != QUANTIZE:
        found.append(reader)
        value = reader.outputs[0]
    grid = grid_of(reader) if reader is not None and is_grid(reader, QUANTIZE) else None
    return (found, reader) if grid is not None and (grid.scale == 1).all() else ([], None)


def _scale_of(codes: ir.Value) -> float:
    """The scale with which codes are made, or read; 1 where only such layers do."""
    root = codes
    while (
        (maker := producer_of(root)) is not None and maker.op_type in ("Clip", *MOVERS) and maker.inputs[0] is not None
    ):
        root = maker.inputs[0]
    return next((scale for scale in _scales(root) if scale != 1), 1.0)


def _scales(codes: ir.Value) -> Iterator[float]:
    """Of the grids that make codes, and that read them, moved or not."""
    maker = producer_of(codes)
    for node in (*([] if maker is None else [maker]), *codes.consumers()):
        grid = grid_of(node) if is_grid(node, QUANTIZE, DEQUANTIZE) else None
        if grid is not None and grid.scale.size == 1:
            yield float(grid.scale[0])
        elif node is not maker and node.op_type in ("Clip", *MOVERS):
            yield from _scales(node.outputs[0])
