"""stem: a convolution of three channels with INT8 weights reads a fourth one, for the kernels' sake.

    QLinearConv(x [N, 3, H, W]; w [C, 3, K, K])  =>  QLinearConv(Gather(x, [0, 1, 2, 2]); w' [C, 4, K, K]), w' zero in the fourth channel

The sums are the same integers. The kernels copy four bytes at a time where they copied three one by one: ONNX Runtime took 108 us for the stem of
EfficientNet-B0 at 224 pixels (172 without the fourth channel) and 375 us for that of ResNet-18 (444). UINT8 weights, which 8-bit first layers have,
gain nothing (644 and 800 us), and neither do blocks of 2×2 pixels as twelve channels (300 us instead of 188, 740 instead of 640).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..graph import attribute, constant, constant_of, insert, is_op

COLORS = 3


def fourth_channel(graph: ir.Graph) -> None:
    """In a qoperator graph."""
    for node in list(graph):
        if is_op(node, "QLinearConv") and _fits(node):
            _widen(graph, node)


def _fits(node: ir.Node) -> bool:
    """Three channels, one group, INT8 weights with zero points of zero, a kernel of more than one tap."""
    name = str(node.name)
    w, zeros = (constant_of(node.inputs[i], name) for i in (3, 5))
    return w.dtype == np.int8 and not zeros.any() and w.shape[1] == COLORS and attribute(node, "group", 1) == 1 and w[0, 0].size > 1


def _widen(graph: ir.Graph, node: ir.Node) -> None:
    x, name = node.inputs[0], str(node.name)
    assert x is not None and x.shape is not None and x.dtype is not None
    w = constant_of(node.inputs[3], name)  # [C_out, 3, K_h, K_w]
    channels = constant(graph, f"{name}.channels", np.array([*range(COLORS), COLORS - 1], np.int64))
    wide = insert(node, "Gather", [x, channels], f"{x.name}.wide", shape=[x.shape[0], COLORS + 1, *x.shape[2:]], axis=1)
    wide.dtype = x.dtype
    node.replace_input_with(0, wide)
    node.replace_input_with(3, constant(graph, f"{name}.weight.wide", np.pad(w, [(0, 0), (0, 1), (0, 0), (0, 0)])))
