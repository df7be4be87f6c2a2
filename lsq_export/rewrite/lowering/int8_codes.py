"""int8_codes: activations in INT8, for receivers that read no unsigned codes.

    QuantizeLinear(x; S, Z UINT8)  =>  QuantizeLinear(x; S, Z - 128 INT8)        and so for DequantizeLinear

All codes are 128 less, the values are the same. Behind `float_clips`: no Clip of codes is left.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import clean, constant
from lsq_export.graph.read import array_of, is_op

HALF = 128


def int8_codes(model: ir.Model) -> None:
    """In a QDQ graph."""
    graph = model.graph
    moved: dict[ir.Value, ir.Value] = {}

    def less(value: ir.Value) -> ir.Value:
        if value not in moved:
            array = array_of(value)
            assert array is not None
            moved[value] = constant(graph, f"{value.name}.signed", (array.astype(np.int16) - HALF).astype(np.int8))
        return moved[value]

    for node in list(graph):
        if not is_op(node, "QuantizeLinear", "DequantizeLinear"):
            continue
        for index in (0, 2):
            value = node.inputs[index] if index < len(node.inputs) else None
            array = array_of(value)
            if value is not None and array is not None and array.dtype == np.uint8:
                node.replace_input_with(index, less(value))
        if is_op(node, "QuantizeLinear"):
            node.outputs[0].type = ir.TensorType(ir.DataType.INT8)
    clean(model)
