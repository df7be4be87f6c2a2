"""convolutions: with a group for each channel `Depthwise0` …, in one group `Conv0` … of our library (joined.py).

    QLinearConv(x [N, H, W, C], w [C, 1, K, K])  =>  Depthwise0(x, table, geometry, scales, zero points, w, bias, …)
    QLinearConv(x [N, H, W, C], w [M, C, K, K])  =>  Conv0(…)

The kernel of Depthwise leaves out taps that are zero in a block of channels: parallel convolutions of several sizes,
merged into one (merge_parallel.py), have many. `geometry` is for the kernels: strides, pads and dilations, which the
stock operator in the function has as attributes; a ninth number, PLANES, says that x is [N, C, H, W]. Where x has few
codes (few_codes.py), and the kernel of Conv can multiply less often for that, 0 and low, step and count of them follow.
"""

from __future__ import annotations

import itertools

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import constant
from lsq_export.graph.operators import CONTRIB
from lsq_export.graph.read import array_of, attribute, graph_of, sole_producer
from lsq_export.kernels import CONVS, DEPTHWISES

from .channels_last import TO_LAST
from .few_codes import codes_of
from .joined import BEFORE, CODES, Head

MOST_TAPS = 1023
PLANES = 1
TILED = {(3, 3, 1, 1, *pads, 1, 1) for pads in itertools.product((0, 1), repeat=4)}  # kernels, strides, pads, dilations


def convolution(node: ir.Node) -> Head | None:
    """One with int8 weights of zero point 0, in a channels-last graph; None for anything else."""
    if node.op_type != "QLinearConv" or node.domain != CONTRIB or not attribute(node, "channels_last", 0):
        return None
    x, *others = node.inputs
    arrays = [array_of(value) for value in others]
    constants = [value for value, array in zip(others, arrays, strict=True) if value is not None and array is not None]
    if x is None or x.dtype not in CODES or len(constants) != 8:
        return None
    weight, zero, y_zero = (np.asarray(arrays[place]) for place in (2, 4, 6))
    names = _names(weight, attribute(node, "group", 1))
    if names is None or weight.dtype != np.int8 or zero.any() or int(np.prod(weight.shape[2:])) > MOST_TAPS:
        return None
    if y_zero.dtype != np.asarray(arrays[1]).dtype:
        return None
    geometry = [
        *(attribute(node, "strides", None) or (1, 1)),
        *(attribute(node, "pads", None) or (0, 0, 0, 0)),
        *(attribute(node, "dilations", None) or (1, 1)),
    ]
    codes = codes_of(x) if names == CONVS and (*weight.shape[2:], *geometry) in TILED else None
    geometry += [] if codes is None else [0, codes.low, codes.step, codes.count]
    return _stem(node, geometry, constants) or Head(
        node, names, [x], [_numbers(node, geometry), *constants], (0, *range(2, 10))
    )


def _numbers(node: ir.Node, geometry: list[int]) -> ir.Value:
    return constant(graph_of(node), f"{node.name}.geometry", np.array(geometry, np.int64))


def _stem(node: ir.Node, geometry: list[int], constants: list[ir.Value]) -> Head | None:
    """A convolution that reads colors several times (widen_stem.py): for the kernel once, [N, C, H, W] as they come."""
    transpose = sole_producer(node.inputs[0], "Transpose")
    gather = None if transpose is None else sole_producer(transpose.inputs[0], "Gather")
    if transpose is None or gather is None:
        return None
    if attribute(gather, "axis", 0) != 1 or tuple(attribute(transpose, "perm", ())) != TO_LAST:
        return None
    colors, channels = gather.inputs
    read, wide = array_of(channels), np.asarray(array_of(constants[2]), np.int64)
    if colors is None or channels is None or read is None or colors.dtype not in CODES:
        return None
    weights = np.stack([wide[:, read == color].sum(axis=1) for color in range(int(read.max()) + 1)], axis=1)
    if weights.min() < -128 or weights.max() > 127 or attribute(node, "group", 1) != 1:
        return None
    own = constant(graph_of(node), f"{node.name}.weight.colors", weights.astype(np.int8))
    numbers = _numbers(node, [*geometry, PLANES])
    kept = [numbers, *constants[:2], own, *constants[3:], channels, constants[2]]
    return Head(
        *(node, CONVS, [colors], kept, (BEFORE, 2, 3, 11, *range(5, 10))),
        before=[(gather, (0, 10)), (transpose, (BEFORE,))],
    )


def _names(weight: np.ndarray, groups: int) -> tuple[str, ...] | None:
    if weight.ndim != 4:
        return None
    if weight.shape[1] == 1 and weight.shape[0] == groups:
        return DEPTHWISES
    return CONVS if groups == 1 else None
