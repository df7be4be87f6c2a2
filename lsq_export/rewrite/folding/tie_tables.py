"""tie_tables: the codes that functions of one tensor's codes have, which a scale that moves should not change.

    QuantizeLinear(Add(x, y); S) -> DequantizeLinear -> Elu -> QuantizeLinear

is a table of 256 codes. With another S a value next to a tie gets another code, and with it every element that has
this value: in training it had the code of the S that was trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import torch

from lsq_export.graph.evaluate import evaluate_node
from lsq_export.graph.grids import grid_of_codes
from lsq_export.graph.operators import CLAMPS
from lsq_export.graph.read import array_of, is_op

# Functions of one number, and of one number and a constant; grids between them are theirs as well.
FUNCTIONS = (
    *("Abs", "Celu", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "Neg", "Selu"),
    *("Sigmoid", "Softplus", "Softsign", "Tanh", "Add", "Sub", "Mul", "Div", "DequantizeLinear", "QuantizeLinear"),
    *CLAMPS,
)
LONGEST = 24  # nodes of one function
CODES = torch.arange(256, dtype=torch.float64)

Changes = Callable[[float], int]


@dataclass(frozen=True)
class Table:
    """nodes: a DequantizeLinear and what follows it, in order of evaluation, the last one a QuantizeLinear."""

    nodes: tuple[ir.Node, ...]

    def codes(self, factor: float) -> np.ndarray:
        """[256], where the scale that the first node reads is so many times as large."""
        first, *others = self.nodes
        scale, zero_point = grid_of_codes(first)
        values = {first.outputs[0]: (CODES - zero_point) * (scale * factor)}
        for node in others:
            known = {i: values[v] for i, v in enumerate(node.inputs) if v is not None and v in values}
            x = known.get(0)
            if x is None:
                x = torch.from_numpy(np.asarray(array_of(node.inputs[0]), dtype=np.float64))
            values[node.outputs[0]] = evaluate_node(node, x, known)
        return values[others[-1].outputs[0]].numpy()


def changes_of(readers: list[ir.Node], scale: float) -> Changes:
    """How many codes of all tables change where `scale` becomes another. readers: DequantizeLinear nodes."""
    tables = [table for reader in readers for table in _tables(reader)]
    known = [table.codes(1.0) for table in tables]

    def changes(moved: float) -> int:
        pairs = zip(tables, known, strict=True)
        return sum(int((table.codes(moved / scale) != codes).sum()) for table, codes in pairs)

    return changes


def _tables(first: ir.Node) -> Iterator[Table]:
    """One for each QuantizeLinear that these codes alone decide."""
    found = [first]
    reached = {first.outputs[0]}
    for node in found:  # grows
        for reader in node.outputs[0].consumers():
            if reader in found or len(found) == LONGEST or not _is_function(reader, reached):
                continue
            found.append(reader)
            reached.add(reader.outputs[0])
            if is_op(reader, "QuantizeLinear"):
                yield Table(tuple(found))


def _is_function(node: ir.Node, reached: set[ir.Value]) -> bool:
    if not is_op(node, *FUNCTIONS):
        return False
    arrays = [array_of(v) for v in node.inputs if v is not None and v not in reached]
    return all(array is not None and array.size == 1 for array in arrays)
