"""Every value that an integer operator can make of codes, and how far kernels need it from a tie (`ties` moves scales
until it is).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from calib.rounding.fixed_point import Addend
from calib.rounding.ties import MARGIN
from lsq_export.graph.build import array_of, attribute, constant_of, is_op

CODES = np.arange(256)
PRODUCT_MARGIN = 7e-5  # steps: kernels round a product once more than a sum, when they add its zero point
LOGISTIC_ERROR = 5e-7  # ONNX Runtime's rational approximation in float32 misses by 1.7e-7


def grid_of_codes(node: ir.Node) -> tuple[float, int]:
    """(scale, zero point) of a QuantizeLinear or DequantizeLinear."""
    scale, zero_point = (constant_of(v, str(node.name)) for v in node.inputs[1:3])
    return float(scale), int(zero_point)


def addend(node: ir.Node, index: int) -> Addend:
    """One quantized input of a node: all 256 codes, or those of a constant."""
    source = node.inputs[index].producer()  # type: ignore[union-attr]
    assert source is not None and is_op(source, "DequantizeLinear")
    scale, zero_point = grid_of_codes(source)
    codes = (
        CODES
        if array_of(source.inputs[0]) is None
        else constant_of(source.inputs[0], str(source.name)).astype(np.int64).ravel()
    )
    return Addend(codes - zero_point, scale)


def _products(node: ir.Node, scale: float) -> tuple[np.ndarray, float]:
    if node.inputs[0] is node.inputs[1]:
        return addend(node, 0).values ** 2, PRODUCT_MARGIN
    return np.multiply.outer(addend(node, 0).values, addend(node, 1).values), PRODUCT_MARGIN


def _averages(node: ir.Node, scale: float) -> tuple[np.ndarray, float]:
    x = node.inputs[0]
    assert x is not None and x.shape is not None
    pixels = int(np.prod([int(size) for size in x.shape[2:]]))  # type: ignore[arg-type]
    return np.interp(np.arange(255 * pixels + 1), [0, 255 * pixels], addend(node, 0).values[[0, -1]]), MARGIN


def logistic_margin(scale: float) -> float:
    """Steps of that scale."""
    return LOGISTIC_ERROR / scale + MARGIN


def _logistic(node: ir.Node, scale: float) -> tuple[np.ndarray, float]:
    return np.exp(-np.logaddexp(0, -addend(node, 0).values)), logistic_margin(
        scale
    )  # 1 / (1 + exp(-x)) without an overflow


def _leaky_relu(node: ir.Node, scale: float) -> tuple[np.ndarray, float]:
    """Two multiplications and a division in float32: as a product."""
    values, alpha = addend(node, 0).values, float(np.float32(attribute(node, "alpha", 0.01)))
    return np.where(values >= 0, values, alpha * values), PRODUCT_MARGIN


def _parts(node: ir.Node, scale: float) -> tuple[np.ndarray, float]:
    return np.concatenate([addend(node, i).values for i in range(len(node.inputs))]), MARGIN


# operator -> (every value that it can take, how many steps of the output's scale to keep it from ties)
VALUES: dict[str, Callable[[ir.Node, float], tuple[np.ndarray, float]]] = {
    "Concat": _parts,
    "GlobalAveragePool": _averages,
    "LeakyRelu": _leaky_relu,
    "Mul": _products,
    "Sigmoid": _logistic,
}
