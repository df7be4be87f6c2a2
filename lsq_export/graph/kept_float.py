"""Operators that stay as they are, which no pass makes integer (the note FLOAT), and why:

    WISHED           the configuration keeps a layer float
    SHAPES           arithmetic of shapes and indices: it is no island
    TAIL             it puts outputs together, after the last DequantizeLinear: it is no island (output_tails.py)
    any other text   there is no integer form: what is missing

All others are islands (islands.py). The bias of a convolution or product that is kept float can carry an offset,
and a batch norm after it goes into it, as with any layer.
"""

from __future__ import annotations

import onnx_ir as ir

from .notes import FLOAT, WISHED
from .read import array_of, attribute

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
SHAPES = "arithmetic of shapes and indices"
TAIL = "after the last DequantizeLinear, where outputs are put together"
# How the doc_string of such a node begins in files for runtimes. The integer reference refuses other float layers.
SAID = "kept float"


def stays_float(node: ir.Node | None) -> bool:
    """Whether this operator stays as it is, for any reason."""
    return node is not None and FLOAT.on(node)


def is_wished(node: ir.Node) -> bool:
    """Whether the configuration keeps this layer float."""
    return FLOAT.get(node, "") == WISHED


def of_shapes(node: ir.Node | None) -> bool:
    """Arithmetic of shapes and indices, which no file computes otherwise."""
    return node is not None and FLOAT.get(node, "") == SHAPES


def is_tail(node: ir.Node | None) -> bool:
    """It puts the network's outputs together, after the last DequantizeLinear: no island, though it is float."""
    return node is not None and FLOAT.get(node, "") == TAIL


def said_of(node: ir.Node) -> str:
    """What the doc_string of an operator that stays as it is says in files for runtimes."""
    return f"{SAID}: {FLOAT.read(node)}"


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
