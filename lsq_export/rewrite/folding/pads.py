"""What a constant Pad adds gets the code of the grid that moved to the other side of it.

    FakeQuantize(Pad(x, v))            =>  Pad(FakeQuantize(x), FakeQuantize(v))
    Pad(DequantizeLinear(c; S, Z), v)  =>  Pad(…, S·(code(v) - Z)),  on codes: Pad(c, code(v))

Exact for learned grids and for v = 0; another v is rounded to the 8-bit grid of an edge, as the values beside it are.
Part of the passes clamps.py and offsets.py.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from calib.folding.containers import CONTAINER_MAX
from calib.grid import Grid, dequantize_linear, quantize_linear
from lsq_export.graph.edit import constant
from lsq_export.graph.operators import MOVES
from lsq_export.graph.read import attribute, constant_of, is_op
from lsq_export.rewrite.contract.decisions import Remainder, TensorDecision


def is_constant_pad(node: ir.Node | None) -> bool:
    return node is not None and is_op(node, "Pad") and attribute(node, "mode", "constant") == "constant"


def pad_value(pad: ir.Node) -> float:
    return float(constant_of(pad.inputs[2], str(pad.name)).reshape(()))


def set_pad_value(graph: ir.Graph, pad: ir.Node, value: float) -> None:
    pad.replace_input_with(2, constant(graph, f"{pad.outputs[0].name}.value", np.float32(value)))


def quantized(grid: Grid, value: float) -> float:
    """FakeQuantize(value)."""
    return float(grid.values(grid.codes(np.float64(value))))


def pads_after(value: ir.Value) -> list[ir.Node]:
    """The constant Pads that get the codes of this value."""
    pads: list[ir.Node] = []
    for node in value.consumers():
        if is_constant_pad(node):
            pads.append(node)
        if is_op(node, *MOVES):
            pads.extend(pads_after(node.outputs[0]))
    return pads


def place_pad(graph: ir.Graph, pad: ir.Node, decision: TensorDecision) -> None:
    """The value of a Pad on the container's grid."""
    value, scale, zero_point = pad_value(pad), decision.container_scale, decision.zero_point
    if decision.kind == "edge" or decision.remainder is Remainder.MOVED:
        code = int(quantize_linear(np.float64(value), scale, zero_point, 0, CONTAINER_MAX))
    else:
        code = round((value - decision.offset) / decision.scale) * decision.stride + decision.origin
    set_pad_value(graph, pad, float(dequantize_linear(np.float64(code), scale, zero_point)))


def pad_code(pad: ir.Node, scale: float, zero_point: int) -> np.ndarray:
    """The code of a placed value."""
    code = quantize_linear(np.float64(pad_value(pad)), scale, zero_point, 0, CONTAINER_MAX)
    return np.asarray(code).astype(np.uint8)
