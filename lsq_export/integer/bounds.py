"""Proof that accumulators of the requantization (E9) fit 32 bits, from the weights alone.

    |acc| <= max over output channels of  Σ|w - z_w| · max|x - Z_x| + |bias|

The inner maximum is over all codes x of the container: the bound holds for every input.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .conv import integer_convolution, qlinear_convolution
from .gemm import columns_bound, gemm_bias, gemm_weight
from .graph import Model, load
from .node import MICROSOFT, Inputs, Node, codes, optional, per_channel, zero_point_of
from .numeric import check_accumulator


def _gemm(node: Node, x: Inputs, input_type: np.dtype[np.generic]) -> int:
    b = gemm_weight(node, x)
    b_zero, bias = per_channel(node, x, 5, b.shape[1]), gemm_bias(node, x, b.shape[1])
    return columns_bound(b, b_zero, input_type, zero_point_of(node, x, 2), bias)


def _qlinear_matmul(node: Node, x: Inputs, input_type: np.dtype[np.generic]) -> int:
    b = codes(node, x, 3)
    return columns_bound(b, per_channel(node, x, 5, b.shape[-1]), input_type, zero_point_of(node, x, 2))


def _matmul_integer(node: Node, x: Inputs, input_type: np.dtype[np.generic]) -> int:
    b = codes(node, x, 1)
    return columns_bound(b, per_channel(node, x, 3, b.shape[-1]), input_type, zero_point_of(node, x, 2))


# The bound of each operator; input 2 of all of them is the zero point of their first input.
BOUNDS: dict[str, Callable[[Node, Inputs, np.dtype[np.generic]], int]] = {
    "QLinearConv": lambda node, x, t: qlinear_convolution(node, x, t).bound(),
    "ConvInteger": lambda node, x, t: integer_convolution(node, x, t).bound(),
    f"{MICROSOFT}.QGemm": _gemm,
    "QLinearMatMul": _qlinear_matmul,
    f"{MICROSOFT}.QLinearMatMul": _qlinear_matmul,
    "MatMulInteger": _matmul_integer,
}


def accumulator_bounds(model: Model) -> dict[str, int]:
    """{node name (or that of its first output): largest |accumulator|} of every operator in BOUNDS.

    Raises QuantizationError where a bound does not fit 32 bits, or where the weight is no constant.
    """
    graph = load(model)
    bounds: dict[str, int] = {}
    for node in graph.nodes:
        bound = BOUNDS.get(node.op)
        if bound is None:
            continue
        x = [graph.constants.get(name) for name in node.inputs]
        unknown = [name for name, value in zip(node.inputs[1:], x[1:], strict=True) if name and value is None]
        if unknown:
            raise node.error(f"{unknown[0]} is no constant: its accumulator has no bound")
        zero = optional(x, 2)
        input_type = np.dtype(np.uint8) if zero is None else zero.dtype
        bounds[node.name] = check_accumulator(node, bound(node, x, input_type))
    return bounds
