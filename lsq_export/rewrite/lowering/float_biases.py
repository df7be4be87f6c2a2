"""float_biases: biases as the values of their codes, for receivers that read no INT32 grid.

    Conv(x, w, DequantizeLinear(b INT32; u))  =>  Conv(x, w, b·u)

The product in float32, as DequantizeLinear computes it: the same values.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import clean, constant
from lsq_export.graph.layers import layer_of
from lsq_export.graph.operators import LAYERS
from lsq_export.graph.read import constant_of, is_op, producer_of


def float_biases(model: ir.Model) -> None:
    """In a QDQ graph."""
    for node in [node for node in model.graph if is_op(node, *LAYERS)]:
        bias = producer_of(node.inputs[2]) if len(node.inputs) > 2 else None
        if is_op(bias, "DequantizeLinear"):
            assert bias is not None
            codes, unit = (constant_of(v, layer_of(node)) for v in bias.inputs[:2])
            values = codes.astype(np.float32) * unit.astype(np.float32)
            node.replace_input_with(2, constant(model.graph, f"{layer_of(node)}.bias.float", values))
    clean(model)
