"""Quant of QONNX: x_hat = (clamp(round(x / s + z), low, high) - z) · s, with a zero point z that may be no integer.

Source: qonnx.custom_op.general, Quant versions 1 and 2; narrow leaves out the least signed code, or the largest
unsigned one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from calib.errors import QuantizationError
from lsq_export.graph.edit import constant, insert, replace
from lsq_export.graph.read import array_of, attribute

ROUNDINGS = ("ROUND", "HALF_EVEN")


@dataclass(frozen=True)
class Quant:
    """scale, zero_point: as stored, broadcast against x. low, high: of codes."""

    scale: np.ndarray
    zero_point: np.ndarray
    low: int
    high: int


def quant_of(node: ir.Node) -> Quant | None:
    """None: its scale, zero point or width is computed.

    Errors (QuantizationError): another rounding than half to even, which no integer runtime has.
    """
    arrays = [array_of(v) for v in node.inputs[1:4]]
    if len(arrays) < 3 or any(array is None for array in arrays):
        return None
    scale, zero_point, width = (np.asarray(array, np.float64) for array in arrays)
    rounding = attribute(node, "rounding_mode", "ROUND")
    if rounding.upper() not in ROUNDINGS:
        raise QuantizationError(
            f"{node.name}: rounds by {rounding}: integer runtimes round half to even; train it with ROUND"
        )
    bits, signed, narrow = int(width), bool(attribute(node, "signed", 1)), bool(attribute(node, "narrow", 0))
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return Quant(scale, zero_point, low + (narrow and signed), high - (narrow and not signed))


def spell_out(graph: ir.Graph, node: ir.Node) -> None:
    """Quant as standard operators, for ONNX Runtime, which does not have it: Div, Add, Round, Clip, Sub, Mul."""
    quant, x = quant_of(node), node.inputs[0]
    if quant is None or x is None:
        raise QuantizationError(f"{node.name}: its scale, zero point or width is computed: export it as constants")
    name, shape = str(node.outputs[0].name), node.outputs[0].shape

    def number(what: str, array: np.ndarray | int) -> ir.Value:
        return constant(graph, f"{name}.{what}", np.asarray(array, np.float32))

    scale, zero_point = number("scale", quant.scale), number("zero_point", quant.zero_point)
    value = x
    for op_type, others in (
        ("Div", [scale]),
        ("Add", [zero_point]),
        ("Round", []),
        ("Clip", [number("low", quant.low), number("high", quant.high)]),
        ("Sub", [zero_point]),
        ("Mul", [scale]),
    ):
        value = insert(node, op_type, [value, *others], f"{name}.{op_type}", shape=shape)
    replace(node.outputs[0], value)
