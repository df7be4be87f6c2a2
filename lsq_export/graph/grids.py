"""The grids of a graph: of markers, of QuantizeLinear and DequantizeLinear, and what a grid moved past."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from calib.errors import QuantizationError
from calib.grid import Grid

from .notes import PASSED
from .operators import MOVES
from .read import attribute, constant_of, is_op, producer_of


def quantizer_of(marker: ir.Node) -> str:
    """The name of the quantizer, or of the edge, that a marker stands for."""
    return str(attribute(marker, "quantizer"))


def is_edge(marker: ir.Node) -> bool:
    """A grid that training did not learn."""
    return bool(attribute(marker, "kind") == "edge")


def is_merged(marker: ir.Node) -> bool:
    """Several activation quantizers in one, with an offset for each channel (merge_parallel.py)."""
    return bool(attribute(marker, "axis") == 1)


def grid_of(marker: ir.Node) -> Grid:
    """The trained grid of a marker that has one; errors name the quantizer."""
    name = quantizer_of(marker)
    scale, offset = (float(constant_of(v, name).reshape(())) for v in marker.inputs[1:3])
    try:
        return Grid(scale, offset, attribute(marker, "qmin"), attribute(marker, "qmax"))
    except QuantizationError as error:
        raise QuantizationError(f"{name}: {error}") from error


def scale_of(marker: ir.Node) -> float:
    """s, of merged markers too."""
    return float(constant_of(marker.inputs[1], quantizer_of(marker)))


def offsets_of(marker: ir.Node) -> np.ndarray:
    """β along the channels, float64 [C], of a merged marker."""
    return constant_of(marker.inputs[2], quantizer_of(marker)).astype(np.float64)


def grid_of_codes(node: ir.Node) -> tuple[float, int]:
    """(scale, zero point) of a QuantizeLinear or DequantizeLinear."""
    scale, zero_point = (constant_of(v, str(node.name)) for v in node.inputs[1:3])
    return float(scale), int(zero_point)


def dequantized(value: ir.Value | None) -> tuple[ir.Value, ir.Value, ir.Value]:
    """(codes, scale, zero point) of a value that a DequantizeLinear makes."""
    node = producer_of(value)
    if node is None or not is_op(node, "DequantizeLinear"):
        raise QuantizationError(f"{value.name if value else '?'}: this value is not on a grid")
    codes, scale, zero_point = node.inputs[:3]
    assert codes is not None and scale is not None and zero_point is not None
    return codes, scale, zero_point


def movers_passed(graph: ir.Graph) -> Mapping[str, Sequence[ir.Node]]:
    """{quantizer: the operators that its grid moved to the other side of, in order}; () of all others."""
    found: defaultdict[str, Sequence[ir.Node]] = defaultdict(tuple)
    for node in graph:
        if is_op(node, *MOVES):
            for quantizer in dict.fromkeys(PASSED.get(node, ())):
                found[quantizer] = (*found[quantizer], node)
    return found
