"""ties: sums move a hair, so that float32 kernels round them as real arithmetic does.

    QuantizeLinear(Add(x, y); S)                 =>  QuantizeLinear(Add(x, y); S')                   S' - S: some millionths of S
    QuantizeLinear(GlobalAveragePool(x); S)      =>  QuantizeLinear(GlobalAveragePool(x); S')
    QuantizeLinear(Add(x, constant -β); s)       =>  QuantizeLinear(Add(x, constant -β'); s)         β' - β: some millionths of s

The change is one of parameters, made before anything is derived from them; the folded model has it too.
"""

from __future__ import annotations

from dataclasses import replace as with_changes

import numpy as np
import onnx_ir as ir

from calib.ties import clear_scale, clear_shift

from ..decisions import TensorDecision
from ..graph import array_of, clean, constant, constant_of, is_op, replace

CODES = np.arange(256.0)


def clear_ties(model: ir.Model, decisions: list[TensorDecision]) -> list[TensorDecision]:
    """Returns the decisions with the scales that were moved."""
    graph = model.graph
    moved: dict[str, float] = {}
    for node in list(graph):
        if not is_op(node, "Add", "GlobalAveragePool"):
            continue
        (quantize,) = node.outputs[0].consumers()
        shift = node.inputs[1].producer() if node.op_type == "Add" and node.inputs[1] is not None else None
        if shift is not None and array_of(shift.inputs[0]) is not None:
            _move_shift(graph, node, shift, quantize)
        else:
            moved[str(quantize.outputs[0].name)] = _move_scale(graph, node, quantize)
    clean(model)
    return [
        with_changes(d, container_scale=moved[d.codes], offset_carried=-moved[d.codes] * d.zero_point) if d.codes in moved else d for d in decisions
    ]


def _grid(node: ir.Node) -> tuple[float, int]:
    """(scale, zero point) of a QuantizeLinear or DequantizeLinear."""
    scale, zero_point = (constant_of(v, str(node.name)) for v in node.inputs[1:3])
    return float(scale), int(zero_point)


def _values(node: ir.Node, index: int) -> np.ndarray:
    """All values of one quantized input of a node, [256]."""
    source = node.inputs[index].producer()  # type: ignore[union-attr]
    assert source is not None and is_op(source, "DequantizeLinear")
    scale, zero_point = _grid(source)
    return (CODES - zero_point) * scale


def _move_scale(graph: ir.Graph, node: ir.Node, quantize: ir.Node) -> float:
    if node.op_type == "Add":
        values = np.add.outer(_values(node, 0), _values(node, 1)).ravel()
    else:
        x = node.inputs[0]
        assert x is not None and x.shape is not None
        pixels = int(np.prod([int(size) for size in x.shape[2:]]))  # type: ignore[arg-type]
        values = np.interp(np.arange(255 * pixels + 1), [0, 255 * pixels], _values(node, 0)[[0, -1]])
    scale, zero_point = _grid(quantize)
    moved = clear_scale(values, scale, -zero_point, 255 - zero_point)
    old = quantize.inputs[1]
    assert old is not None
    if moved != scale:
        replace(old, constant(graph, str(old.name), np.float32(moved)))  # QuantizeLinear and its DequantizeLinears share the scale
    return moved


def _move_shift(graph: ir.Graph, node: ir.Node, shift: ir.Node, quantize: ir.Node) -> None:
    size, zero_point = _grid(shift)
    code = int(constant_of(shift.inputs[0], str(shift.name)).reshape(()))
    scale, output_zero = _grid(quantize)
    moved = clear_shift(_values(node, 0), (code - zero_point) * size, scale, -output_zero, 255 - output_zero)
    old = shift.inputs[1]
    assert old is not None
    replace(old, constant(graph, str(old.name), np.float32(abs(moved))))
