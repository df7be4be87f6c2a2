"""stem: a strided convolution of few channels reads blocks of pixels as channels, for the kernels' sake.

    QLinearConv(x; w [C_out, C, K, K], stride 2)  =>  QLinearConv(SpaceToDepth(x; 2); w' [C_out, 4·C, K', K'], stride 1)

Row 2·i - t + j of x is row i + ⌊(j - t)/2⌋ of the blocks, the upper or the lower one as j - t is even or odd; taps that K' has more than K are zero,
and a block outside is padding as a whole, since H and W are even. The sums are the same integers. With INT8 weights an image of 3 channels took half
of the time; the gain with UINT8 weights, as an 8-bit first layer has them, has not been measured alone.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..graph import attribute, constant, constant_of, insert, is_op

FEW = 4  # channels: kernels copy so many bytes at a time
BLOCK = 2


def blocks_as_channels(graph: ir.Graph) -> None:
    """In a qoperator graph."""
    for node in list(graph):
        if is_op(node, "QLinearConv") and _fits(node):
            _rewrite(graph, node)


def _fits(node: ir.Node) -> bool:
    """Stride 2, one group, no dilation, few channels, even height and width."""
    x, w = node.inputs[0], constant_of(node.inputs[3], str(node.name))
    sizes = list(x.shape or ())[2:] if x is not None else []
    plain = attribute(node, "group", 1) == 1 and tuple(attribute(node, "dilations", [1, 1])) == (1, 1)
    even = len(sizes) == 2 and all(isinstance(size, int) and size % BLOCK == 0 for size in sizes)
    strided = tuple(attribute(node, "strides", [1, 1])) == (BLOCK, BLOCK)
    return plain and even and strided and w.shape[1] <= FEW and min(w.shape[2:]) > 1


def _rewrite(graph: ir.Graph, node: ir.Node) -> None:
    x, name = node.inputs[0], str(node.name)
    assert x is not None and x.shape is not None
    w = constant_of(node.inputs[3], name)  # [C_out, C, K_h, K_w]
    pads, sizes = list(attribute(node, "pads", [0, 0, 0, 0])), [int(size) for size in x.shape[2:]]  # type: ignore[arg-type]
    zeros = constant_of(node.inputs[5], name).reshape(-1)  # zero point of the weights: what a tap without weight holds
    fill = np.broadcast_to(zeros, w.shape[:1]).reshape(-1, 1, 1, 1)
    moved, new_pads = w, pads.copy()
    for axis, size in enumerate(sizes):
        taps, before = w.shape[2 + axis], pads[axis]
        outputs = (size + before + pads[2 + axis] - taps) // BLOCK + 1
        first, last = -before // BLOCK, (taps - 1 - before) // BLOCK  # blocks that the first output reads
        lead = before + BLOCK * first  # -1 where the first tap is the lower row of its block
        trail = BLOCK * (last - first + 1) + lead - taps
        width = [(0, 0)] * 4
        width[2 + axis] = (-lead, trail)
        filled = np.broadcast_to(fill, np.pad(moved, width).shape).copy()
        inside = [slice(None)] * 4
        inside[2 + axis] = slice(-lead, -lead + taps)
        filled[tuple(inside)] = moved
        moved = filled
        new_pads[axis], new_pads[2 + axis] = -first, outputs - 1 + (last - first + 1) + first - size // BLOCK
    if min(new_pads) < 0:
        return
    c_out, channels, height, width_ = moved.shape
    split = moved.reshape(c_out, channels, height // BLOCK, BLOCK, width_ // BLOCK, BLOCK)
    codes = np.ascontiguousarray(split.transpose(0, 3, 5, 1, 2, 4)).reshape(c_out, BLOCK**2 * channels, height // BLOCK, width_ // BLOCK)
    shape = [x.shape[0], BLOCK**2 * channels, *(size // BLOCK for size in sizes)]
    blocks = insert(node, "SpaceToDepth", [x], f"{x.name}.blocks", shape=shape, blocksize=BLOCK)
    assert x.dtype is not None
    blocks.dtype = x.dtype
    node.replace_input_with(0, blocks)
    node.replace_input_with(3, constant(graph, f"{name}.weight.blocks", codes))
    node.attributes["kernel_shape"] = ir.AttrInt64s("kernel_shape", list(codes.shape[2:]))
    node.attributes["strides"], node.attributes["pads"] = ir.AttrInt64s("strides", [1, 1]), ir.AttrInt64s("pads", new_pads)
