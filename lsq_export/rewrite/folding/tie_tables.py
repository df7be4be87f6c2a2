"""tie_tables: the codes that functions of one tensor's codes have, which a scale that moves should not change.

    QuantizeLinear(Add(x, y); S) -> DequantizeLinear -> Elu -> QuantizeLinear

is a table of 256 codes. With another S a value next to a tie gets another code, and with it every element that has
this value: in training it had the code of the S that was trained.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import torch

from calib.rounding.candidates import Changes
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
LONGEST = 24  # nodes behind one DequantizeLinear
CODES = torch.arange(256, dtype=torch.float64)


def changes_of(readers: list[ir.Node], scale: float) -> Changes:
    """How many codes of all tables change where `scale` becomes another. readers: DequantizeLinear nodes."""
    functions = [nodes for reader in readers if (nodes := _functions_of(reader))]
    known = [_codes(nodes, 1.0) for nodes in functions]

    def changes(moved: float) -> int:
        pairs = zip(functions, known, strict=True)
        return sum(int((_codes(nodes, moved / scale) != codes).sum()) for nodes, codes in pairs)

    return changes


def _codes(nodes: list[ir.Node], factor: float) -> np.ndarray:
    """[QuantizeLinear nodes, 256], where the scale that the first node reads is so many times as large."""
    first, *others = nodes
    scale, zero_point = grid_of_codes(first)
    values = {first.outputs[0]: (CODES - zero_point) * (scale * factor)}
    for node in others:
        known = {i: values[v] for i, v in enumerate(node.inputs) if v is not None and v in values}
        x = known.get(0)
        if x is None:
            x = torch.from_numpy(np.asarray(array_of(node.inputs[0]), dtype=np.float64))
        values[node.outputs[0]] = evaluate_node(node, x, known)
    return np.array([values[node.outputs[0]].numpy().ravel() for node in others if is_op(node, "QuantizeLinear")])


def _functions_of(first: ir.Node) -> list[ir.Node]:
    """A DequantizeLinear and what its codes alone decide, in order of evaluation, up to the last QuantizeLinear."""
    found = [first]
    reached = {first.outputs[0]}
    for node in found:  # grows
        for reader in node.outputs[0].consumers():
            if reader not in found and len(found) < LONGEST and _is_function(reader, reached):
                found.append(reader)
                reached.add(reader.outputs[0])
    last = max((index for index, node in enumerate(found) if is_op(node, "QuantizeLinear")), default=-1)
    return found[: last + 1]


def _is_function(node: ir.Node, reached: set[ir.Value]) -> bool:
    if not is_op(node, *FUNCTIONS):
        return False
    arrays = [array_of(v) for v in node.inputs if v is not None and v not in reached]
    return all(array is not None and array.size == 1 for array in arrays)
