"""int8_weights: weights of 8 bits in INT8 with the zero point 0, for receivers that read no others.

    DequantizeLinear(q + Z as UINT8; s, Z)  =>  DequantizeLinear(q as INT8; s, 0)

The values are the same. A layer with a code of +128, which INT8 does not hold (E8: -128 with its sign flipped), stays
as it is, and the rules of the target say what comes of it. On x86 without VNNI kernels may saturate
(calib.folding.saturation): `lsq-export lint` has a note where they can.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import clean
from lsq_export.graph.layers import layer_of, set_weight, weight_codes, weight_of
from lsq_export.graph.operators import LAYERS
from lsq_export.graph.read import constant_of, is_op

LARGEST = 127  # code of INT8


def int8_weights(model: ir.Model) -> None:
    """In a QDQ graph."""
    for node in [node for node in model.graph if is_op(node, *LAYERS)]:
        codes, scale = weight_codes(node)
        zeros = constant_of(weight_of(node).inputs[2], layer_of(node)).astype(np.int64)
        if not zeros.any():
            continue
        centered = codes.astype(np.int64) - zeros.reshape(-1, *[1] * (codes.ndim - 1))
        if centered.min() >= -LARGEST - 1 and centered.max() <= LARGEST:
            set_weight(node, model.graph, centered.astype(np.int8), scale, np.zeros(len(scale), np.int8))
    clean(model)
