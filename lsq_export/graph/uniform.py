"""A depthwise convolution with one weight for all taps: the layer that pools, batch norms and merges are made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from .edit import constant, insert
from .notes import BITS
from .read import graph_of, maker_of


@dataclass(frozen=True, kw_only=True)
class Window:
    """kernel, strides: of height and width. pads: top, left, bottom, right. Other ranks in the same order."""

    kernel: tuple[int, ...] = (1, 1)
    strides: tuple[int, ...] = (1, 1)
    pads: tuple[int, ...] = (0, 0, 0, 0)

    @staticmethod
    def of_one(spatial: int) -> Window:
        """A window of one element, on so many axes."""
        return Window(kernel=(1,) * spatial, strides=(1,) * spatial, pads=(0,) * 2 * spatial)


def uniform_depthwise(
    before: ir.Node, x: ir.Value, name: str, channels: int, *, weight: float = 1.0, window: Window | None = None
) -> ir.Node:
    """Conv(x) with `weight` for every tap of every channel, as the code 1; the layer is called `name`."""
    graph, window = graph_of(before), window or Window()
    shape = (channels, 1, *window.kernel)
    codes = constant(graph, f"{name}.weight.codes", np.ones(shape, np.int8))
    scale = constant(graph, f"{name}.weight.scale", np.full(channels, weight, np.float32))
    values = insert(before, "DequantizeLinear", [codes, scale], f"{name}.weight.values", shape=shape, axis=0)
    BITS.write(values, 2)
    y = insert(
        before,
        "Conv",
        [x, values],
        f"{name}.sums",
        group=channels,
        kernel_shape=list(window.kernel),
        pads=list(window.pads),
        strides=list(window.strides),
        dilations=[1] * len(window.kernel),
    )
    layer = maker_of(y)
    layer.name = name
    return layer
