"""Layers that the configuration keeps float: Conv and Gemm with float weights, which no pass makes integer (FLOAT).

They are islands (islands.py). Yet their bias can carry an offset, and a batch norm after them goes into them, as with
any layer.
"""

from __future__ import annotations

import onnx_ir as ir

from .notes import FLOAT
from .read import array_of, attribute

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# What files for runtimes say of such a node, in its doc_string. The integer reference refuses other float layers.
SAID = "kept float, as QATConfig(layers=...) wishes"


def stays_float(node: ir.Node | None) -> bool:
    """Whether the configuration keeps this operator float."""
    return node is not None and FLOAT.on(node)


def is_float_layer(node: ir.Node | None) -> bool:
    """A convolution or a product with weights that stays float."""
    return node is not None and FLOAT.on(node) and node.op_type in LAYERS


def is_plain_float_layer(node: ir.Node | None) -> bool:
    """One whose output channels are those of its constant weight, [C_out, …]: scales and biases can go into it."""
    if node is None or not is_float_layer(node) or node.op_type == "MatMul" or array_of(node.inputs[1]) is None:
        return False
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    known = array_of(bias)
    if bias is not None and (known is None or known.ndim > 1):
        return False
    usual = {"alpha": 1.0, "beta": 1.0, "transA": 0}
    transposed = node.op_type == "Conv" or attribute(node, "transB", 0) == 1
    return transposed and all(attribute(node, name, value) == value for name, value in usual.items())
