"""keep_branches: a maximum keeps the grid of a convolution that is only added to something.

    Add(DequantizeLinear(QuantizeLinear(Conv(x))), y)
        =>  Add(Max(DequantizeLinear(QuantizeLinear(Conv(x))), the lowest value of its grid), y)

The maximum changes nothing. OpenVINO 2026.4.1 fuses the sum into the convolution and drops the grid between them where
y is computed, too, also by a convolution (which has a maximum then, too); the maximum stops it, and is computed with
the sum. (A pool of single pixels stops it as well, and is a step of its own.)
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import constant, insert
from lsq_export.graph.read import array_of, graph_of, is_op, rank_of, single_consumer, sole_producer


def keep_branches(model: ir.Model) -> None:
    """In a QDQ graph."""
    for node in list(model.graph):
        if not is_op(node, "Add") or any(x is None or array_of(x) is not None for x in node.inputs):
            continue
        for index, value in enumerate(node.inputs):
            if value is not None and is_of_convolution(value):
                lowest = constant(graph_of(node), f"{value.name}.lowest", _lowest(value))
                kept = insert(node, "Max", [value, lowest], f"{value.name}.kept", shape=value.shape)
                node.replace_input_with(index, kept)


def _lowest(value: ir.Value) -> np.ndarray:
    """What a DequantizeLinear makes of the lowest code of its type, a scalar."""
    node = sole_producer(value, "DequantizeLinear")
    assert node is not None
    scale, zero_point = (np.asarray(array_of(x)) for x in node.inputs[1:3])
    code = np.iinfo(zero_point.dtype).min
    values = (np.int64(code) - zero_point.astype(np.int64)).astype(np.float32) * scale.astype(np.float32)
    return np.asarray(values.min(), np.float32)


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
