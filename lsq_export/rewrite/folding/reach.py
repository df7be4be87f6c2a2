"""The smallest and the largest value that a tensor of the folded graph can take, whatever the image.

    QuantizeLinear, DequantizeLinear, Clip, Sigmoid     the ends of their inputs, for these functions never decrease
    MaxPool, GlobalAveragePool, Reshape, …              what their inputs reach
    Add, Mul                                            the ends of sums and of products
    a function of one tensor of codes                   all of its values, one for each code: x·σ(x), a SiLU, is never
                                                        below -0.28, whatever x is
    everything else, convolutions above all             everywhere

Real arithmetic, as the folded graph is; `ties` sees to it that kernels round as it does.
"""

from __future__ import annotations

from itertools import product
from math import isnan

import onnx_ir as ir
import torch

from lsq_export.graph.evaluate import evaluate_node
from lsq_export.graph.operators import OPERATORS
from lsq_export.graph.read import array_of, is_op

Range = tuple[float, float]
EVERYWHERE = (-torch.inf, torch.inf)
INCREASING, BETWEEN, POINTWISE = (
    tuple(row.name for row in OPERATORS.values() if getattr(row, flag))
    for flag in ("increasing", "between", "pointwise")
)


def reach(value: ir.Value | None, known: dict[ir.Value, Range] | None = None) -> Range:
    """(smallest, largest) of a tensor of values or of codes. known: what has been found already."""
    known = {} if known is None else known
    if value is None:
        return EVERYWHERE
    if value not in known:
        known[value] = _reach(value, known)
    return known[value]


def _reach(value: ir.Value, known: dict[ir.Value, Range]) -> Range:
    array, node = array_of(value), value.producer()
    if array is not None:
        return float(array.min()), float(array.max())
    if node is None or _per_channel(node):
        return EVERYWHERE
    if is_op(node, *BETWEEN):
        return reach(node.inputs[0], known)
    if is_op(node, *INCREASING):
        low, high = evaluate_node(node, torch.tensor(reach(node.inputs[0], known), dtype=torch.float64), {}).tolist()
        return low, high
    if is_op(node, *POINTWISE):
        return _of_one_tensor(node, known) or _of_ends(node, known)
    return EVERYWHERE


def _per_channel(node: ir.Node) -> bool:
    constants = [array_of(x) for x in node.inputs[1:]] if is_op(node, "QuantizeLinear", "DequantizeLinear") else []
    return any(a is not None and a.size > 1 for a in constants)


def _of_ends(node: ir.Node, known: dict[ir.Value, Range]) -> Range:
    if not is_op(node, "Add", "Mul"):
        return EVERYWHERE
    a, b = (reach(x, known) for x in node.inputs)
    ends = [x + y if node.op_type == "Add" else x * y for x, y in product(a, b)]
    return EVERYWHERE if any(isnan(end) for end in ends) else (min(ends), max(ends))  # ∞ - ∞, 0·∞


def _of_one_tensor(node: ir.Node, known: dict[ir.Value, Range]) -> Range | None:
    """The ends of a node's values, if they are a function of the codes of one tensor; None if not."""
    for x in node.inputs:
        source = x.producer() if x is not None else None
        root = source.inputs[0] if source is not None and is_op(source, "DequantizeLinear") else None
        if root is None or array_of(root) is not None:
            continue
        low, high = reach(root, known)
        values = _values(node.outputs[0], {root: torch.arange(low, high + 1, dtype=torch.float64)})
        if values is not None:
            return float(values.min()), float(values.max())
    return None


def _values(value: ir.Value, known: dict[ir.Value, torch.Tensor | None]) -> torch.Tensor | None:
    """Of a tensor for each of the codes in `known`; None if it depends on anything else."""
    if value not in known:
        node = value.producer()
        known[value] = (
            _apply(node, known) if node is not None and is_op(node, *POINTWISE) and not _per_channel(node) else None
        )
    return known[value]


def _apply(node: ir.Node, known: dict[ir.Value, torch.Tensor | None]) -> torch.Tensor | None:
    given: dict[int, torch.Tensor] = {}
    for index, x in enumerate(node.inputs):
        array = array_of(x)
        if x is None or (array is not None and array.size == 1):
            continue
        found = _values(x, known)
        if found is None:
            return None
        given[index] = found
    first = given.pop(0, None)
    return None if first is None else evaluate_node(node, first, given)
