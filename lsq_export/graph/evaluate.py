"""Evaluate a captured, a folded or a QDQ graph in floating point, with torch, in float64 or float32.

One table of operators serves the trained model (markers, E1), the folded model (QuantizeLinear and DequantizeLinear,
E2) and the calibration of edges. The integer graph has an evaluator of its own that shares no code with this one
(`lsq_export.integer`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from calib.errors import QuantizationError

from .float_grids import fake_quantize
from .operators import OPERATORS, Operator
from .read import array_of, is_marker

Tensor = torch.Tensor
OnValue = Callable[[str, Tensor], "Tensor | None"]
# Input numbers evaluated at once where every layer is held in float64: 98 images of 3×32×32, 2 of 3×224×224
OnNode = Callable[[ir.Node, "list[Tensor | None]", Tensor], "Tensor | None"]
PORTION = 2 * 3 * 224**2


def evaluate(
    graph: ir.Graph,
    x: Tensor | np.ndarray,
    *,
    dtype: torch.dtype = torch.float64,
    on_value: OnValue | None = None,
    on_node: OnNode | None = None,
) -> list[Tensor]:
    """Outputs of the graph for one input batch.

    on_value(name, value) sees every computed value in order; what it returns (if not None) takes the value's place,
    so that each layer can be fed with inputs from elsewhere. Tensors are freed after their last use.
    """
    values: dict[ir.Value, Tensor] = {graph.inputs[0]: torch.as_tensor(x).to(dtype)}
    last_use = _last_uses(graph)
    outputs = set(graph.outputs)
    with torch.no_grad():
        for index, node in enumerate(graph):
            inputs = [None if v is None else values[v] if v in values else _constant(v, dtype) for v in node.inputs]
            results = _apply(node, inputs)
            for value, result in zip(node.outputs, results, strict=False):  # masks of a Dropout have no meaning
                name = str(value.name)
                replaced = on_value(name, result) if on_value else on_node(node, inputs, result) if on_node else None
                values[value] = result if replaced is None else replaced.to(dtype)
            for v in last_use.get(index, ()):
                if v not in outputs:
                    values.pop(v, None)
    return [values[v] for v in graph.outputs]


def has_meaning(graph: ir.Graph) -> bool:
    """Every operator can be evaluated.

    Before normalization some cannot: operators outside of the table, computed shapes, sizes in place of scales.
    """
    return all(is_marker(node) or _has_meaning(node) for node in graph)


def _has_meaning(node: ir.Node) -> bool:
    row = _known(node)
    if row is None or (row.constants and any(v is not None and array_of(v) is None for v in node.inputs[1:])):
        return False
    return node.op_type != "Resize" or (len(node.inputs) == 3 and node.inputs[2] is not None)


def evaluate_node(node: ir.Node, x: Tensor, given: Mapping[int, Tensor]) -> Tensor:
    """One operator on x. given: {index: input} in place of what the graph has; the other inputs are constants."""
    inputs = [
        given[i] if i in given else None if v is None else _constant(v, x.dtype) for i, v in enumerate(node.inputs) if i
    ]
    (result,) = _apply(node, [x, *inputs])
    return result


def portions_of(images: Tensor) -> tuple[Tensor, ...]:
    """images [N, …] in parts of at most PORTION numbers, or of one image."""
    return torch.split(images, max(1, PORTION // max(1, images[0].numel())))


def _last_uses(graph: ir.Graph) -> dict[int, list[ir.Value]]:
    last: dict[ir.Value, int] = {}
    for index, node in enumerate(graph):
        for v in node.inputs:
            if v is not None:
                last[v] = index
    by_node: dict[int, list[ir.Value]] = {}
    for v, index in last.items():
        by_node.setdefault(index, []).append(v)
    return by_node


def _constant(value: ir.Value, dtype: torch.dtype) -> Tensor:
    array = array_of(value)
    if array is None:
        raise QuantizationError(f"{value.name}: the graph reads this value before it is made")
    if value.dtype is not None and value.dtype.is_integer() and array.dtype == np.int64:
        return torch.from_numpy(array.copy())  # shapes and axes stay integers
    return torch.from_numpy(np.asarray(array).astype(np.float64)).to(dtype)


def _known(node: ir.Node) -> Operator | None:
    return OPERATORS.get(node.op_type) if node.domain == "" else None


def _apply(node: ir.Node, inputs: list[Any]) -> tuple[Tensor, ...]:
    """All outputs of a node."""
    known = _known(node)
    if is_marker(node):
        result: Tensor | tuple[Tensor, ...] = fake_quantize(node, inputs)
    elif known is not None:
        result = known.meaning(node, inputs)
    else:
        what = f"{node.domain or 'onnx'}::{node.op_type}"
        raise QuantizationError(f"{node.name}: no float evaluation for the operator {what}")
    return result if isinstance(result, tuple) else (result,)
