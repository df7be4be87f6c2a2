"""ties: sums move a hair, so that float32 kernels round them as real arithmetic does.

    QuantizeLinear(Add(x, y); S)                 =>  QuantizeLinear(Add(x, y); S')                   S' - S: some millionths of S
    QuantizeLinear(Mul | Sigmoid | GlobalAveragePool; S)   =>  the same with S'
    QuantizeLinear(Add(x, constant -β); s)       =>  QuantizeLinear(Add(x, constant -β'); s)         β' - β: some millionths of s

The change is one of parameters, made before anything is derived from them; the folded model has it too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace as with_changes

import numpy as np
import onnx_ir as ir

from calib.fixed_point import Addend
from calib.ties import MARGIN, clear_scale, clear_shift, clear_sum_scale

from ..decisions import TensorDecision
from ..graph import array_of, clean, constant, constant_of, is_op, replace

CODES = np.arange(256)
PRODUCT_MARGIN = 7e-5  # steps: kernels round a product once more than a sum, when they add its zero point
TABLE_MARGIN = 1e-3  # steps: kernels compute functions to some 1e-6, and a step of a table is 1/255 of its range


def clear_ties(model: ir.Model, decisions: list[TensorDecision]) -> list[TensorDecision]:
    """Returns the decisions with the scales that were moved."""
    graph = model.graph
    moved: dict[str, float] = {}
    for quantize in [node for node in graph if is_op(node, "QuantizeLinear")]:
        node = quantize.inputs[0].producer() if quantize.inputs[0] is not None else None
        shift = node.inputs[1].producer() if node is not None and is_op(node, "Add") and node.inputs[1] is not None else None
        if node is not None and shift is not None and array_of(shift.inputs[0]) is not None:
            _move_shift(graph, node, shift, quantize)
        elif is_op(node, *SUMS) or _readers(quantize):
            moved[_codes_name(quantize)] = _move_scale(graph, node, quantize)
    clean(model)
    return [
        with_changes(d, container_scale=moved[d.codes], offset_carried=-moved[d.codes] * d.zero_point) if d.codes in moved else d for d in decisions
    ]


def _readers(quantize: ir.Node) -> list[float]:
    """Scales of the grids to which the codes are quantized again directly. Spreading (E5), which reads them with another zero point, has no ties."""
    mine = _grid(quantize)
    values = [node.outputs[0] for node in quantize.outputs[0].consumers() if is_op(node, "DequantizeLinear") and _grid(node) == mine]
    return [_grid(reader)[0] for value in values for reader in value.consumers() if is_op(reader, "QuantizeLinear") and _grid(reader) != mine]


def _codes_name(quantize: ir.Node) -> str:
    """The tensor of codes that the graph hands on: behind the clip of a narrowed edge, if there is one."""
    codes = quantize.outputs[0]
    (reader, *others) = codes.consumers()
    return str(reader.outputs[0].name if not others and is_op(reader, "Clip") else codes.name)


def _grid(node: ir.Node) -> tuple[float, int]:
    """(scale, zero point) of a QuantizeLinear or DequantizeLinear."""
    scale, zero_point = (constant_of(v, str(node.name)) for v in node.inputs[1:3])
    return float(scale), int(zero_point)


def _addend(node: ir.Node, index: int) -> Addend:
    """One quantized input of a node: all 256 codes, or those of a constant."""
    source = node.inputs[index].producer()  # type: ignore[union-attr]
    assert source is not None and is_op(source, "DequantizeLinear")
    scale, zero_point = _grid(source)
    codes = CODES if array_of(source.inputs[0]) is None else constant_of(source.inputs[0], str(source.name)).astype(np.int64).ravel()
    return Addend(codes - zero_point, scale)


def _move_scale(graph: ir.Graph, node: ir.Node | None, quantize: ir.Node) -> float:
    scale, zero_point = _grid(quantize)
    low, high, readers = -zero_point, 255 - zero_point, _readers(quantize)
    if node is None or not is_op(node, *SUMS):
        moved = clear_scale(np.empty(0), scale, low, high, readers=readers)
    elif node.op_type == "Add":
        moved = clear_sum_scale(_addend(node, 0), _addend(node, 1), scale, low, high, readers=readers)
    else:
        values, margin = VALUES[node.op_type](node)
        moved = clear_scale(values, scale, low, high, margin=margin, readers=readers)
    old = quantize.inputs[1]
    assert old is not None
    if moved != scale:
        replace(old, constant(graph, str(old.name), np.float32(moved)))  # QuantizeLinear and its DequantizeLinears share the scale
    return moved


def _products(node: ir.Node) -> tuple[np.ndarray, float]:
    return np.multiply.outer(_addend(node, 0).values, _addend(node, 1).values), PRODUCT_MARGIN


def _averages(node: ir.Node) -> tuple[np.ndarray, float]:
    x = node.inputs[0]
    assert x is not None and x.shape is not None
    pixels = int(np.prod([int(size) for size in x.shape[2:]]))  # type: ignore[arg-type]
    return np.interp(np.arange(255 * pixels + 1), [0, 255 * pixels], _addend(node, 0).values[[0, -1]]), MARGIN


def _logistic(node: ir.Node) -> tuple[np.ndarray, float]:
    return 1 / (1 + np.exp(-_addend(node, 0).values)), TABLE_MARGIN


# operator -> (every value that it can take, how far to keep it from ties)
VALUES: dict[str, Callable[[ir.Node], tuple[np.ndarray, float]]] = {"Mul": _products, "GlobalAveragePool": _averages, "Sigmoid": _logistic}
SUMS = ("Add", *VALUES)


def _move_shift(graph: ir.Graph, node: ir.Node, shift: ir.Node, quantize: ir.Node) -> None:
    scale, zero_point = _grid(quantize)
    moved = clear_shift(_addend(node, 0), _addend(node, 1), scale, -zero_point, 255 - zero_point)
    old = shift.inputs[1]
    assert old is not None
    replace(old, constant(graph, str(old.name), np.float32(moved)))
