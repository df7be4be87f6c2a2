"""widen_stem: a convolution of three channels reads four, or eight, because kernels are faster on these.

    INT8:   QLinearConv(x [N, 3, H, W]; w [C, 3, K, K])  =>  QLinearConv(Gather(x, [0, 1, 2, 2]); [w0, w1, w2, 0])
    UINT8:  QLinearConv(x; w, zero point z)
            =>  QLinearConv(Gather(x, [0, 0, 1, 1, 2, 2, 2, 2]); [⌊v0/2⌋, ⌈v0/2⌉, ⌊v1/2⌋, …, 0, 0])
            v = w - z, in -128 … 128

The sums are the same integers, and the halves are no larger than 64, so that no kernel saturates on the way (E7).

Kernels copy four or eight bytes at a time where they copied three one by one, and take INT8 weights faster than UINT8
ones. ONNX Runtime on two threads with AVX512-VNNI, stems of EfficientNet-B0 and of ResNet-18 at 224 pixels: INT8
weights 102 and 365 us (three channels: 169, 445), UINT8 weights 133 and 533 us (three channels: 179, 620; a fourth one:
197, 740). Six channels, or blocks of 2×2 pixels as twelve, are slower. In the whole network with UINT8 weights that is
2-4 % of EfficientNet-B0, and nothing of ResNet-18, whose caches are cold there.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import constant, insert
from lsq_export.graph.read import attribute, constant_of, is_op

COLORS = 3
LARGEST = 128  # of weights less their zero point
QUAD, PAIRS = (0, 1, 2, 2), (0, 0, 1, 1, 2, 2, 2, 2)  # the colors that the channels read


def widen_stem(graph: ir.Graph) -> None:
    """In a qoperator graph."""
    for node in list(graph):
        if is_op(node, "QLinearConv") and _fits(node):
            _widen(graph, node)


def _fits(node: ir.Node) -> bool:
    """Three channels, one group, a kernel of more than one tap, weights whose halves no kernel saturates on."""
    w, zeros = (constant_of(node.inputs[i], str(node.name)) for i in (3, 5))
    centered = w.astype(np.int64) - zeros.reshape(-1, *[1] * (w.ndim - 1))
    small = bool(np.abs(centered).max(initial=0) <= LARGEST)
    return bool(w.shape[1] == COLORS and attribute(node, "group", 1) == 1 and w[0, 0].size > 1 and small)


def _widen(graph: ir.Graph, node: ir.Node) -> None:
    x, name = node.inputs[0], str(node.name)
    assert x is not None and x.shape is not None and x.dtype is not None
    w, zeros = (constant_of(node.inputs[i], name) for i in (3, 5))  # [C_out, 3, K_h, K_w], [] or [C_out]
    centered = w.astype(np.int64) - zeros.reshape(-1, *[1] * (w.ndim - 1))
    colors, weights = (QUAD, _padded(centered, 1)) if w.dtype == np.int8 else (PAIRS, _padded(_halves(centered), 2))
    channels = constant(graph, f"{name}.channels", np.array(colors, np.int64))
    wide = insert(
        node, "Gather", [x, channels], f"{x.name}.wide", shape=[x.shape[0], len(colors), *x.shape[2:]], axis=1
    )
    wide.dtype = x.dtype
    node.replace_input_with(0, wide)
    node.replace_input_with(3, constant(graph, f"{name}.weight.wide", weights.astype(np.int8)))
    node.replace_input_with(5, constant(graph, f"{name}.weight.wide_zero_point", np.zeros(zeros.shape, np.int8)))


def _halves(weights: np.ndarray) -> np.ndarray:
    """Two channels for each: they add up to it."""
    lower = weights // 2
    return np.stack([lower, weights - lower], axis=2).reshape(len(weights), -1, *weights.shape[2:])


def _padded(weights: np.ndarray, channels: int) -> np.ndarray:
    return np.pad(weights, [(0, 0), (0, channels), *[(0, 0)] * (weights.ndim - 2)])
