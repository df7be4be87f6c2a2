"""keep_branches: a pool of single pixels keeps the grid of a convolution that is only added to something.

    Add(DequantizeLinear(QuantizeLinear(Conv(x))), y)  =>  Add(MaxPool1×1(DequantizeLinear(QuantizeLinear(Conv(x)))), y)

The pool changes nothing. OpenVINO 2026.4.1 fuses the sum into the convolution and drops the grid between them, where y
is computed and no convolution, too; the pool stops it.
"""

from __future__ import annotations

import onnx_ir as ir

from lsq_export.graph.edit import insert
from lsq_export.graph.read import array_of, is_op, rank_of, single_consumer, sole_producer


def keep_branches(model: ir.Model) -> None:
    """In a QDQ graph."""
    for node in list(model.graph):
        if not is_op(node, "Add") or any(x is None or array_of(x) is not None for x in node.inputs):
            continue
        branches = [is_of_convolution(value) for value in node.inputs]
        for index, value in enumerate(node.inputs):
            if value is not None and branches[index] and sum(branches) == 1:
                kept = insert(
                    node,
                    "MaxPool",
                    [value],
                    f"{value.name}.kept",
                    shape=value.shape,
                    kernel_shape=[1] * (rank_of(value) - 2),
                )
                node.replace_input_with(index, kept)


def is_of_convolution(value: ir.Value | None) -> bool:
    """The values of codes of a convolution, each read once."""
    if value is None:
        return False
    node = sole_producer(value, "DequantizeLinear")
    node = sole_producer(node.inputs[0], "QuantizeLinear", "Clip") if node is not None else None
    if is_op(node, "Clip"):
        assert node is not None
        node = sole_producer(node.inputs[0], "QuantizeLinear")
    before = node.inputs[0] if node is not None else None
    made = sole_producer(before) if before is not None and single_consumer(before) else None
    while is_op(made, "Clip", "Relu"):
        assert made is not None
        made = sole_producer(made.inputs[0])
    return is_op(made, "Conv") and rank_of(value) > 2
