"""The accumulators inside an integer graph, which no tensor shows: `verify` compares them exactly."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .conv import accumulate, batch_first, qlinear_convolution
from .gemm import gemm_bias, gemm_weight, product
from .graph import Model, load
from .node import MICROSOFT, Array, Inputs, Node, codes, per_channel, zero_point_of


def accumulators(model: Model, tensors: Mapping[str, Array]) -> dict[str, Array]:
    """{tensor: its accumulator} for outputs of QLinearConv, QGemm, and DequantizeLinear of an int32 tensor.

    tensors: every tensor of the graph by name, as `run` returns them. Accumulators are integers, in a float type or
    int32, shaped like the output.
    """
    graph = load(model)
    known = {**graph.constants, **tensors}
    totals: dict[str, Array] = {}
    for node in graph.nodes:
        values = [known.get(name) if name else None for name in node.inputs]
        total = _accumulator(node, values)
        if total is not None:
            totals[node.outputs[0]] = total
    return totals


def _accumulator(node: Node, x: Inputs) -> Array | None:
    if node.op == "QLinearConv":
        a = codes(node, x, 0)
        return batch_first(accumulate(node, a, qlinear_convolution(node, x, a.dtype)))
    if node.op == f"{MICROSOFT}.QGemm":
        a, b = codes(node, x, 0), gemm_weight(node, x)
        b_zero = per_channel(node, x, 5, b.shape[1])
        return product(node, a, zero_point_of(node, x, 2), b, b_zero, gemm_bias(node, x, b.shape[1]))
    if node.op == "DequantizeLinear" and x[0] is not None and x[0].dtype == np.int32:
        return x[0]
    return None
