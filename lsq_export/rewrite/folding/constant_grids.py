"""constant_grids: constants that no layer takes get grids of their own.

    Add(x, c), Mul(x, c < 0)    =>  Add(x, DequantizeLinear(1; |c|, 0)), …      one number: one element, which is exact
    Add(x, c), Mul(x, c)        =>  Add(x, DequantizeLinear(codes; …)), …       any other tensor: 8 bits, 0 among them
    MatMul(x, c), MatMul(c, x)  =>  MatMul(x, DequantizeLinear(codes; …)), …    likewise

The latter rounds a constant as an edge rounds a tensor: by at most half a step of 1/255 of its range. Where all numbers
are multiples of a step, at most 255 of them apart, as those of a trained weight, nothing is rounded.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from calib.errors import QuantizationError
from calib.folding.containers import CONTAINER_MAX
from calib.grid import quantize_linear
from lsq_export.graph.edit import clean, constant
from lsq_export.graph.notes import OPERAND
from lsq_export.graph.read import array_of, is_op, maker_of
from lsq_export.rewrite.contract.conditions import Condition
from lsq_export.rewrite.contract.passes import Keeps, Pass, stateless

from .constants import constant_operand
from .qdq import dequantize, one_element
from .scaling import factor_of

SAME = 1e-6  # of the largest number: what float32 leaves between equal ones


def constants_to_grids(model: ir.Model) -> None:
    for node in list(model.graph):
        operand = constant_operand(node)
        if operand is not None and factor_of(node) is None:
            _place(model.graph, node, *operand)
        elif is_op(node, "MatMul"):
            _place_factor(model.graph, node)
    clean(model)


def _place(graph: ir.Graph, node: ir.Node, x: ir.Value, array: np.ndarray) -> None:
    if not np.isfinite(array).all():
        raise QuantizationError(f"{node.name}: the constant of this {node.op_type} is not finite")
    number = float(array.reshape(-1)[0]) if array.size == 1 else 0.0
    operand = one_element(graph, node, number, str(node.name)) if number else _on_grid(graph, node, array)
    OPERAND.write(maker_of(operand), True)
    node.replace_input_with(0, x)
    node.replace_input_with(1, operand)


def _place_factor(graph: ir.Graph, node: ir.Node) -> None:
    """A matrix that is multiplied."""
    for index, value in enumerate(node.inputs):
        array = array_of(value)
        if array is None:
            continue
        if not np.isfinite(array).all():
            raise QuantizationError(f"{node.name}: the constant of this MatMul is not finite")
        operand = _on_grid(graph, node, array)
        OPERAND.write(maker_of(operand), True)
        node.replace_input_with(index, operand)


def _on_grid(graph: ir.Graph, node: ir.Node, array: np.ndarray) -> ir.Value:
    """The constant in 256 codes; 0 is one of them."""
    low, high = min(float(array.min()), 0.0), max(float(array.max()), 0.0)
    scale = _step_of(array) or float(np.float32((high - low) / CONTAINER_MAX)) or 1.0
    zero_point = int(np.rint(-low / scale))
    codes = quantize_linear(array.astype(np.float64), scale, zero_point, 0, CONTAINER_MAX)
    name = f"{node.name}.constant"
    stored = constant(graph, f"{name}.codes", np.asarray(codes).astype(np.uint8))
    return dequantize(graph, node, stored, scale, zero_point, name)


def _step_of(array: np.ndarray) -> float:
    """The largest step of which all numbers are multiples, if 256 codes hold them; 0 if there is none. By Euclid."""
    numbers = np.abs(np.unique(array.astype(np.float64)))
    largest, rest = float(numbers.max(initial=0.0)), numbers
    while (rest := rest[rest > SAME * largest]).size:
        step = float(rest.min())
        if largest > CONTAINER_MAX * step * (1 + SAME):
            return 0.0
        codes = np.rint(numbers / step)
        rest = np.abs(numbers - step * codes)
    if not largest:
        return 0.0
    low, high = min(float(array.min()), 0.0), max(float(array.max()), 0.0)
    step = float(np.float32(largest / codes.max()))
    return step if round((high - low) / step) <= CONTAINER_MAX else 0.0


def _float_operand(node: ir.Node) -> bool:
    if is_op(node, "MatMul"):
        return any(array_of(x) is not None for x in node.inputs)
    return constant_operand(node) is not None and factor_of(node) is None


PASS = Pass(
    "constant_grids",
    stateless(constants_to_grids),
    Keeps.NOTHING,
    because="constant tensors are rounded to 8 bits",
    ensures=(Condition("constants that are added or multiplied are on grids", _float_operand),),
)
