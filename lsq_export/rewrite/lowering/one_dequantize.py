"""one_dequantize: codes that are dequantized on several scales, of which one is 1, are dequantized on that one alone.

    DequantizeLinear(q; 1, Z), DequantizeLinear(q; S, Z)  =>  y = DequantizeLinear(q; 1, Z), y · S

The same values: q - Z is a whole number, and both sides round its product with S once. Of two such nodes onnx2tf 2.6.9
gives one the scale of the other.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import clean, insert_after, replace
from lsq_export.graph.read import array_of, is_op


def one_dequantize(model: ir.Model) -> None:
    """In a QDQ graph of exact sums."""
    for plain in [node for node in model.graph if is_op(node, "DequantizeLinear") and _scale_of(node) == 1]:
        codes, values = plain.inputs[0], plain.outputs[0]
        assert codes is not None
        for other in [node for node in codes.consumers() if is_op(node, "DequantizeLinear")]:
            if _scale_of(other) not in (None, 1) and _have_one_zero_point(plain, other):
                name = f"{other.outputs[0].name}.scaled"
                replace(other.outputs[0], insert_after(values, model.graph, "Mul", [values, other.inputs[1]], name))
    clean(model)


def _scale_of(node: ir.Node) -> float | None:
    """None: it is computed, or there is one for each channel."""
    scale = array_of(node.inputs[1])
    return float(scale.reshape(())) if scale is not None and scale.size == 1 else None


def _have_one_zero_point(*nodes: ir.Node) -> bool:
    first, second = (array_of(node.inputs[2]) for node in nodes)
    return first is not None and second is not None and np.array_equal(first, second)
