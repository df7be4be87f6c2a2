"""How large the parameters of the float network are."""

from __future__ import annotations

from hashlib import blake2b

import onnx_ir as ir

from .read import array_of, is_marker, is_op

FLOAT_BYTES = 4


def float_bytes(trained: ir.Graph) -> int:
    """Bytes of weights, biases and statistics of a captured graph in float32.

    Weights are codes there. Scales and offsets of quantizers do not count, nor do single numbers (bounds of a clamp).
    Equal ones count once, as files store them once: two slices of a buffer, say.
    """
    constants: dict[tuple[str, tuple[int, ...], bytes], int] = {}
    for node in trained:
        is_grid = is_marker(node) or is_op(node, "DequantizeLinear")
        for value in node.inputs[:1] if is_grid else node.inputs:
            array = array_of(value)
            if value is not None and array is not None and array.ndim and (is_grid or array.dtype.kind == "f"):
                key = (array.dtype.str, array.shape, blake2b(array.tobytes()).digest())
                constants[key] = int(array.size)
    return FLOAT_BYTES * sum(constants.values())
