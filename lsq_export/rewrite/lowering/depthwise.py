"""depthwise: convolutions with a group for each channel, as `Depthwise0` … of our library (joined.py).

    QLinearConv(x [N, H, W, C], w [C, 1, K, K])  =>  Depthwise0(x, table, geometry, scales, zero points, w, bias, …)

The kernel leaves out taps that are zero in a block of 16 channels: parallel convolutions of several sizes, merged into
one (merge_parallel.py), have many. `geometry` is for the kernel: strides, pads and dilations, which the stock operator
in the function has as attributes.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import constant
from lsq_export.graph.operators import CONTRIB
from lsq_export.graph.read import array_of, attribute, graph_of
from lsq_export.kernels import DEPTHWISES

from .joined import CODES, Head

MOST_TAPS = 1023


def depthwise(node: ir.Node) -> Head | None:
    """One with int8 weights of zero point 0, in a channels-last graph; None for anything else."""
    if node.op_type != "QLinearConv" or node.domain != CONTRIB or not attribute(node, "channels_last", 0):
        return None
    x, *others = node.inputs
    arrays = [array_of(value) for value in others]
    constants = [value for value, array in zip(others, arrays, strict=True) if value is not None and array is not None]
    if x is None or x.dtype not in CODES or len(constants) != 8:
        return None
    weight, zero, y_zero = (np.asarray(arrays[place]) for place in (2, 4, 6))
    if not (weight.ndim == 4 and weight.shape[1] == 1 and weight.shape[0] == attribute(node, "group", 1)):
        return None
    if weight.dtype != np.int8 or zero.any() or int(np.prod(weight.shape[2:])) > MOST_TAPS:
        return None
    if y_zero.dtype != np.asarray(arrays[1]).dtype:
        return None
    geometry = [
        *(attribute(node, "strides", None) or (1, 1)),
        *(attribute(node, "pads", None) or (0, 0, 0, 0)),
        *(attribute(node, "dilations", None) or (1, 1)),
    ]
    numbers = constant(graph_of(node), f"{node.name}.geometry", np.array(geometry, np.int64))
    return Head(node, DEPTHWISES, [x], [numbers, *constants], (0, *range(2, 10)))
