"""round_first: sums of layers are rounded before they become codes, for receivers that add the zero point first.

    QuantizeLinear(y; 1, Z)  =>  QuantizeLinear(Round(y); 1, Z)

The same codes: ONNX rounds y to the nearest integer, or the even one of two, and adds Z to that. OpenCV 5.0.0 rounds
y + Z, a float32 sum that has fewer bits left for the fraction: what lies next to a tie becomes one. Other grids stay as
they are, because OpenCV has fused forms of pools and sums between a DequantizeLinear and a QuantizeLinear.
"""

from __future__ import annotations

import onnx_ir as ir

from lsq_export.graph.edit import clean, insert
from lsq_export.graph.read import constant_of, is_op


def round_first(model: ir.Model) -> None:
    """In a QDQ graph of exact sums."""
    for node in [node for node in model.graph if is_op(node, "QuantizeLinear")]:
        x, name = node.inputs[0], str(node.outputs[0].name)
        assert x is not None
        if (constant_of(node.inputs[1], name) == 1).all():
            node.replace_input_with(0, insert(node, "Round", [x], f"{name}.rounded", shape=x.shape))
    clean(model)
