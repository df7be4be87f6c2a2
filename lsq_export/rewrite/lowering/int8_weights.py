"""int8_weights: weights of 8 bits in INT8 with the zero point 0, for receivers that read no others.

    DequantizeLinear(q + Z as UINT8; s, Z)  =>  DequantizeLinear(q as INT8; s, 0)

The values are the same. On x86 without VNNI kernels may saturate then (calib.folding.saturation): `lsq-export lint` has
a note where they can.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from calib.errors import QuantizationError
from lsq_export.graph.edit import clean
from lsq_export.graph.layers import layer_of, set_weight, weight_codes, weight_of
from lsq_export.graph.operators import LAYERS
from lsq_export.graph.read import constant_of, is_op


def int8_weights(model: ir.Model) -> None:
    """In a QDQ graph. Errors (QuantizationError): a weight code of +128 (E8), which INT8 does not hold."""
    for node in [node for node in model.graph if is_op(node, *LAYERS)]:
        codes, scale = weight_codes(node)
        zeros = constant_of(weight_of(node).inputs[2], layer_of(node)).astype(np.int64)
        if not zeros.any():
            continue
        centered = codes.astype(np.int64) - zeros.reshape(-1, *[1] * (codes.ndim - 1))
        if centered.max() > 127:
            channel = int(np.argmax(centered.reshape(len(centered), -1).max(axis=1)))
            raise QuantizationError(
                f"{layer_of(node)}: channel {channel} has a weight of +128 steps, which INT8 does not hold: use "
                "--target ort-cpu, or train with narrow weights"
            )
        set_weight(node, model.graph, centered.astype(np.int8), scale, np.zeros(len(scale), np.int8))
    clean(model)
