"""dense_groups: a convolution of single pixels in groups of channels becomes one in a single group.

    Conv1×1(x, w [C_out, C_in/g, 1, 1]; g groups)  =>  Conv1×1(x, w' [C_out, C_in, 1, 1])

Codes of w' for channels outside of the group are the zero point, so that all sums stay the same. The layer has g times
the weights. OpenCV 5.0.0's newer engine computes the left side wrong where it keeps the channels of x in blocks.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import clean, constant
from lsq_export.graph.layers import layer_of, set_weight, weight_codes
from lsq_export.graph.read import array_of, attribute, constant_of, is_op, producer_of


def dense_groups(model: ir.Model) -> None:
    """In a QDQ graph; layers that stay float, too."""
    for node in [node for node in model.graph if node.op_type == "Conv"]:
        groups, weight = attribute(node, "group", 1), _dequantize(node.inputs[1])
        stored = array_of(weight.inputs[0] if weight is not None else node.inputs[1])
        if groups == 1 or stored is None:  # it is computed
            continue
        if stored.shape[1] == 1 or set(stored.shape[2:]) != {1}:  # of one channel each: depthwise
            continue
        if weight is None:
            dense = constant(model.graph, f"{layer_of(node)}.dense", _dense(stored, np.zeros(1), groups))
            node.replace_input_with(1, dense)
        else:
            zeros = constant_of(weight.inputs[2], layer_of(node))
            set_weight(node, model.graph, _dense(stored, zeros, groups), weight_codes(node)[1], zeros)
        node.attributes["group"] = ir.AttrInt64("group", 1)
    clean(model)


def _dequantize(weight: ir.Value | None) -> ir.Node | None:
    """What makes a quantized weight of its codes."""
    maker = producer_of(weight)
    return maker if is_op(maker, "DequantizeLinear") else None


def _dense(codes: np.ndarray, zeros: np.ndarray, groups: int) -> np.ndarray:
    """codes: [C_out, C_in/g, …]. zeros: [C_out], or one for all. Returns [C_out, C_in, …]."""
    (c_out, of_group), kernel = codes.shape[:2], codes.shape[2:]
    dense = np.empty((groups, c_out // groups, groups, of_group, *kernel), codes.dtype)
    dense[...] = np.broadcast_to(zeros.reshape(-1), c_out).reshape(groups, -1, *[1] * (2 + len(kernel)))
    for group, own in enumerate(codes.reshape(groups, -1, of_group, *kernel)):
        dense[group, :, group] = own
    return dense.reshape(c_out, -1, *kernel)
