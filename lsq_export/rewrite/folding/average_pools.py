"""average_pools: an average pool is a depthwise convolution with one weight for all taps.

    AveragePool(x), k × k   =>  Conv(x, DequantizeLinear(1; 1/k²), group = C)       (no pads, or pads that count)

The code 1 with its scale is exact, accumulators are integers (E9), and the bias carries a learned offset (E3).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import clean, replace
from lsq_export.graph.read import attribute, input_of, is_op, rank_of
from lsq_export.graph.uniform import Window, uniform_depthwise
from lsq_export.rewrite.contract.conditions import FROZEN_WEIGHTS
from lsq_export.rewrite.contract.passes import Keeps, Pass, stateless


def average_pools_to_convolutions(model: ir.Model) -> None:
    """Windows of different sizes (cut off, or with pads that do not count) stay an AveragePool."""
    for node in list(model.graph):
        if is_op(node, "AveragePool"):
            _to_convolution(node)
    clean(model)


def _to_convolution(node: ir.Node) -> None:
    x, kernel = input_of(node), tuple(int(size) for size in attribute(node, "kernel_shape"))
    ones, zeros = [1] * len(kernel), [0] * 2 * len(kernel)
    pads = tuple(attribute(node, "pads", zeros))
    channels = x.shape[1] if rank_of(x) == len(kernel) + 2 and x.shape is not None else None
    uneven = attribute(node, "ceil_mode", 0) or (any(pads) and not attribute(node, "count_include_pad", 0))
    if not isinstance(channels, int) or uneven:
        return
    window = Window(kernel=kernel, strides=tuple(attribute(node, "strides", ones)), pads=pads)
    layer = uniform_depthwise(node, x, str(node.name), channels, weight=1 / float(np.prod(kernel)), window=window)
    layer.outputs[0].shape = node.outputs[0].shape
    replace(node.outputs[0], layer.outputs[0])


PASS = Pass("average_pools", stateless(average_pools_to_convolutions), Keeps.VALUES, requires=(FROZEN_WEIGHTS,))
