"""Convolutions that a file keeps float on purpose: in float64, faster than onnx's ReferenceEvaluator."""

from __future__ import annotations

import numpy as np

from .any_operator import as_it_is
from .conv import batch_first, patches
from .node import Array, Inputs, Node, float64, optional, required
from .window import window


def kept_float(node: Node, x: Inputs) -> list[Array]:
    """All outputs of a node that stays as it is on purpose, floats rounded once to float32."""
    two_dimensional = node.op == "Conv" and required(node, x, 1).ndim == 4
    return _conv(node, x) if two_dimensional else as_it_is(node, x)


def _conv(node: Node, x: Inputs) -> list[Array]:
    values, weight = float64(node, x, 0), float64(node, x, 1)
    groups = int(node.attributes.get("group", 1))
    geometry = window(node, values, tuple(weight.shape[2:]))
    matrix = weight.reshape(groups, len(weight) // groups, -1)
    total = (matrix @ patches(values, 0, geometry, groups, np.float64)).reshape(len(weight), -1, *geometry.output)
    if optional(x, 2) is not None:
        total += float64(node, x, 2).reshape(-1, *[1] * (total.ndim - 1))
    return [batch_first([total.astype(np.float32)])]
