"""The accumulators inside an integer graph, which no tensor shows: what `verify` compares exactly."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .conv import _accumulate, _batch_first, qlinear_convolution
from .gemm import _product, gemm_bias, gemm_weight
from .graph import Model, load
from .node import MICROSOFT, Array, Inputs, Node, codes, per_channel, zero_point_of


def accumulators(model: Model, tensors: Mapping[str, Array]) -> dict[str, Array]:
    """{tensor: accumulator} for the output of every QLinearConv and QGemm, and of every DequantizeLinear that reads an
    int32 tensor.

    tensors: every tensor of the graph by name, as `run` returns them. Accumulators are integers, in a float type or
    int32, shaped like the output."""
    graph = load(model)
    known = {**graph.constants, **tensors}
    found: dict[str, Array] = {}
    for node in graph.nodes:
        values = [known.get(name) if name else None for name in node.inputs]
        total = _accumulator(node, values)
        if total is not None:
            found[node.outputs[0]] = total
    return found


def _accumulator(node: Node, x: Inputs) -> Array | None:
    if node.op == "QLinearConv":
        a = codes(node, x, 0)
        return _batch_first(_accumulate(node, a, qlinear_convolution(node, x, a.dtype)))
    if node.op == f"{MICROSOFT}.QGemm":
        a, b = codes(node, x, 0), gemm_weight(node, x)
        return _product(
            node, a, zero_point_of(node, x, 2), b, per_channel(node, x, 5, b.shape[1]), gemm_bias(node, x, b.shape[1])
        )
    if node.op == "DequantizeLinear" and x[0] is not None and x[0].dtype == np.int32:
        return x[0]
    return None
