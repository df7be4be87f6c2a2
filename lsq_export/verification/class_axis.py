"""Along which axis of a network's first output its classes lie, as the graph says."""

from __future__ import annotations

import onnx_ir as ir

from lsq_export.graph.operators import OPERATORS
from lsq_export.graph.read import array_of, attribute, is_marker, rank_of

CHANNELS = 1  # of [N, classes, …], as a convolution and a plain classifier have them
RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


def class_axis(graph: ir.Graph) -> int:
    """1, or the last axis where a matrix product makes the output, or a norm or softmax over it: [N, steps, classes].

    Followed back through operators that compute element by element, and reshapes that keep the size of the last axis.
    """
    value = graph.outputs[0]
    last = rank_of(value) - 1
    while (node := value.producer()) is not None:
        if node.op_type in ("Gemm", "MatMul", "LayerNormalization"):
            return last
        if node.op_type in ("Softmax", "LogSoftmax"):
            return last if attribute(node, "axis", -1) in (-1, rank_of(value) - 1) else CHANNELS
        before = _handed_on(node)
        if before is None:
            return CHANNELS
        value = before
    return CHANNELS


def _handed_on(node: ir.Node) -> ir.Value | None:
    """The operand whose last axis is the output's."""
    computed = [value for value in node.inputs if value is not None and array_of(value) is None]
    if len(computed) != 1:
        return None
    row = OPERATORS.get(node.op_type)
    if is_marker(node) or node.op_type in ("Identity", "Cast") or (row is not None and row.pointwise):
        return computed[0]
    before, after = computed[0].shape, node.outputs[0].shape
    kept = before and after and isinstance(before[-1], int) and before[-1] == after[-1]
    return computed[0] if kept and node.op_type in RESHAPES else None
