"""Every value that an integer operator can make of codes, and how far kernels need it from a rounding tie.

Part of the pass ties.py, which moves scales until values are that far.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from calib.rounding.candidates import MARGIN
from calib.rounding.fixed_point import Addend
from lsq_export.graph.grids import grid_of_codes
from lsq_export.graph.read import array_of, attribute, input_of, is_op, maker_of

CODES = np.arange(256)
PRODUCT_MARGIN = 7e-5  # steps: kernels round a product once more than a sum, when they add its zero point
LOGISTIC_ERROR = 5e-7  # ONNX Runtime's rational approximation in float32 misses by 1.7e-7


def addend(node: ir.Node, index: int) -> Addend:
    """One quantized input of a node: all 256 codes, or those of a constant."""
    source = maker_of(input_of(node, index))
    assert is_op(source, "DequantizeLinear")
    scale, zero_point = grid_of_codes(source)
    stored = array_of(source.inputs[0])
    codes = CODES if stored is None else stored.astype(np.int64).ravel()
    return Addend(codes - zero_point, scale)


def _products(node: ir.Node, scale: float) -> tuple[np.ndarray, float]:
    if node.inputs[0] is node.inputs[1]:
        return addend(node, 0).values ** 2, PRODUCT_MARGIN
    return np.multiply.outer(addend(node, 0).values, addend(node, 1).values), PRODUCT_MARGIN


def _averages(node: ir.Node, scale: float) -> tuple[np.ndarray, float]:
    shape = input_of(node).shape
    assert shape is not None
    pixels = int(np.prod([size for size in shape[2:] if isinstance(size, int)]))
    return np.interp(np.arange(255 * pixels + 1), [0, 255 * pixels], addend(node, 0).values[[0, -1]]), MARGIN


def logistic_margin(scale: float) -> float:
    """Steps of that scale."""
    return LOGISTIC_ERROR / scale + MARGIN


def _logistic(node: ir.Node, scale: float) -> tuple[np.ndarray, float]:
    values = np.exp(-np.logaddexp(0, -addend(node, 0).values))  # 1 / (1 + exp(-x)) without an overflow
    return values, logistic_margin(scale)


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
