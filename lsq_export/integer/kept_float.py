"""Layers that a file keeps float on purpose, and clamps between them. The file says so in the doc_string of a node.

Any other float convolution, product or clamp has no place in a `qoperator` file, and is refused.
"""

from __future__ import annotations

import numpy as np
from onnx.reference import ReferenceEvaluator

from .conv import batch_first, patches
from .node import UNKNOWN, Array, Inputs, Node, float64, operator, optional
from .window import window

ON_PURPOSE = "kept float"  # how the doc_string begins


def on_purpose(node: Node) -> bool:
    """Whether the file says that this operator shall be float."""
    return node.proto.doc_string.startswith(ON_PURPOSE)


@operator("Conv")
def conv(node: Node, x: Inputs) -> list[Array]:
    """In float64, rounded once to float32."""
    _check(node)
    values, weight = float64(node, x, 0), float64(node, x, 1)
    groups = int(node.attributes.get("group", 1))
    geometry = window(node, values, tuple(weight.shape[2:]))
    matrix = weight.reshape(groups, len(weight) // groups, -1)
    total = (matrix @ patches(values, 0, geometry, groups, np.float64)).reshape(len(weight), -1, *geometry.output)
    if optional(x, 2) is not None:
        total += float64(node, x, 2).reshape(-1, *[1] * (total.ndim - 1))
    return [batch_first([total.astype(np.float32)])]


@operator("Gemm", "MatMul", "Relu")
def product(node: Node, x: Inputs) -> list[Array]:
    """In float64, rounded once to float32."""
    _check(node)
    values = {name: float64(node, x, i) for i, name in enumerate(node.inputs) if name}
    evaluator = ReferenceEvaluator(node.proto, opsets={"": node.opset})
    return [np.asarray(y).astype(np.float32) for y in list(evaluator.run(None, values))]


def _check(node: Node) -> None:
    if not on_purpose(node):
        raise node.error(UNKNOWN)
