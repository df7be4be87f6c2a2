"""bias_zero_points: biases name their zero point, for tools that look for three inputs.

    Conv(x, w, DequantizeLinear(b INT32; u))  =>  Conv(x, w, DequantizeLinear(b; u, 0))

The same values: 0 is what a DequantizeLinear without a zero point takes. ONNX Runtime 1.32.0 saves no runtime
optimizations (.ort files of the style Runtime) of a layer whose bias has none: "This is an invalid model".
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import constant
from lsq_export.graph.layers import layer_of
from lsq_export.graph.operators import LAYERS
from lsq_export.graph.read import constant_of, is_op, producer_of


def bias_zero_points(model: ir.Model) -> None:
    """In a QDQ graph."""
    for node in [node for node in model.graph if is_op(node, *LAYERS)]:
        bias = producer_of(node.inputs[2]) if len(node.inputs) > 2 else None
        if bias is not None and is_op(bias, "DequantizeLinear") and len(bias.inputs) == 2:
            shape = constant_of(bias.inputs[1], layer_of(node)).shape
            zero = constant(model.graph, f"{layer_of(node)}.bias.zero_point", np.zeros(shape, np.int32))
            bias.resize_inputs(3)
            bias.replace_input_with(2, zero)
