"""How large the parameters of the float network are."""

from __future__ import annotations

import onnx_ir as ir

from .read import array_of, is_marker, is_op

FLOAT_BYTES = 4


def float_bytes(trained: ir.Graph) -> int:
    """Bytes of weights, biases and statistics of a captured graph in float32.

    Weights are codes there. Scales and offsets of quantizers do not count, nor do single numbers (bounds of a clamp).
    """
    constants: dict[str, int] = {}
    for node in trained:
        is_grid = is_marker(node) or is_op(node, "DequantizeLinear")
        for value in node.inputs[:1] if is_grid else node.inputs:
            array = array_of(value)
            if value is not None and array is not None and array.ndim and (is_grid or array.dtype.kind == "f"):
                constants[str(value.name)] = int(array.size)
    return FLOAT_BYTES * sum(constants.values())
