"""Phases of images in turn: [N, C·r·…, M, …] becomes [N, C, r·M, …]."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import onnx_ir as ir

from .edit import constant, insert
from .read import graph_of


def in_turn(before: ir.Node, x: ir.Value, strides: Sequence[int]) -> ir.Value | None:
    """Element r·m + f of the result along an axis is element m of phase f; phases are the faster index of channels.

    None: strides that differ, and sizes that vary. A pixel shuffle where all strides of an image are the same.
    """
    phases, name = prod(strides), f"{x.name}_in_turn"
    assert x.shape is not None
    batch, channels, *sizes = x.shape
    if phases == 1:
        return x
    assert isinstance(channels, int)
    long = [size * r if isinstance(size, int) else None for size, r in zip(sizes, strides, strict=True)]
    whole = [batch, channels // phases, *long]
    if len(strides) == 2 and strides[0] == strides[1]:
        return insert(before, "DepthToSpace", [x], name, shape=whole, blocksize=strides[0], mode="CRD")
    if not all(isinstance(size, int) for size in sizes):
        return None
    spatial = len(strides)
    apart = [batch, channels // phases, *strides, *sizes]
    order = [0, 1, *(place for axis in range(spatial) for place in (2 + spatial + axis, 2 + axis))]
    shapes = [constant(graph_of(before), f"{name}.shape", np.array([0, *s[1:]])) for s in (apart, whole)]
    x = insert(before, "Reshape", [x, shapes[0]], f"{name}_apart", shape=apart)
    x = insert(before, "Transpose", [x], f"{name}_turned", shape=[apart[axis] for axis in order], perm=order)
    return insert(before, "Reshape", [x, shapes[1]], name, shape=whole)


def cut(before: ir.Node, x: ir.Value, beyond: Sequence[int]) -> ir.Value:
    """Without the last so many elements of each axis of an image."""
    axes = [2 + index for index, count in enumerate(beyond) if count]
    if not axes:
        return x
    assert x.shape is not None
    sizes = [size - count if isinstance(size, int) else None for size, count in zip(x.shape[2:], beyond, strict=True)]
    bounds = ("from", [0] * len(axes)), ("to", [-count for count in beyond if count]), ("axes", axes)
    constants = [constant(graph_of(before), f"{x.name}.{what}", np.array(v, np.int64)) for what, v in bounds]
    return insert(before, "Slice", [x, *constants], f"{x.name}_cut", shape=[*x.shape[:2], *sizes])
