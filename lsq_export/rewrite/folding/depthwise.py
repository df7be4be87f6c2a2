"""depthwise: operators that are a depthwise convolution with one weight for all taps.

    AveragePool(x), k × k                =>  Conv(x, DequantizeLinear(1; 1/k²), group = C)      (no pads, or pads that count)

The code 1 with its scale is exact, accumulators are integers (E9), and the bias carries a learned offset (E3).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from lsq_export.graph.build import attribute, clean, constant, insert, is_op, replace


def average_pools_to_convolutions(model: ir.Model) -> None:
    graph = model.graph
    for node in list(graph):
        x = node.inputs[0] if node.inputs else None
        if (
            not is_op(node, "AveragePool")
            or x is None
            or x.shape is None
            or len(x.shape) != 4
            or not isinstance(x.shape[1], int)
        ):
            continue
        pads = list(attribute(node, "pads", [0, 0, 0, 0]))
        if attribute(node, "ceil_mode", 0) or (any(pads) and not attribute(node, "count_include_pad", 0)):
            continue  # windows of different sizes: stays an AveragePool
        kernel = [int(size) for size in attribute(node, "kernel_shape")]
        strides = list(attribute(node, "strides", [1, 1]))
        y = uniform_depthwise(
            graph, node, x, str(node.name), x.shape[1], kernel, 1 / float(np.prod(kernel)), strides, pads
        )
        y.shape = node.outputs[0].shape
        replace(node.outputs[0], y)
    clean(model)


def uniform_depthwise(
    graph: ir.Graph,
    before: ir.Node,
    x: ir.Value,
    name: str,
    channels: int,
    kernel: list[int],
    weight: float,
    strides: list[int],
    pads: list[int],
) -> ir.Value:
    """Conv(x) with `weight` for every tap of every channel, as the code 1; the layer is called `name`."""
    codes = constant(graph, f"{name}.weight.codes", np.ones((channels, 1, *kernel), np.int8))
    scale = constant(graph, f"{name}.weight.scale", np.full(channels, weight, np.float32))
    values = insert(
        before, "DequantizeLinear", [codes, scale], f"{name}.weight.values", shape=[channels, 1, *kernel], axis=0
    )
    values.metadata_props["bits"] = "2"
    geometry: dict[str, Any] = {
        "group": channels,
        "kernel_shape": kernel,
        "pads": pads,
        "strides": strides,
        "dilations": [1, 1],
    }
    y = insert(before, "Conv", [x, values], f"{name}.sums", **geometry)
    layer = y.producer()
    assert layer is not None
    layer.name = name
    return y
