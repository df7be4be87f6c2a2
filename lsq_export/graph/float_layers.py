"""Float meanings of convolutions, products with weights, norms and pools, with torch."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import torch
import torch.nn.functional as F

from calib.errors import QuantizationError

from .read import attribute

Tensor = torch.Tensor


def _pad(x: Tensor, pads: Any, value: float) -> Tensor:
    """pads: before and after each axis of the image, as ONNX has them."""
    before, after = pads[: len(pads) // 2], pads[len(pads) // 2 :]
    sides = [count for pair in zip(reversed(before), reversed(after), strict=True) for count in pair]
    return F.pad(x, sides, value=value) if any(pads) else x


def conv(node: ir.Node, inputs: list[Any]) -> Tensor:
    x, w = inputs[:2]
    bias = inputs[2] if len(inputs) > 2 else None
    spatial = w.dim() - 2
    pads = attribute(node, "pads", [0] * (2 * spatial))
    strides, dilations = attribute(node, "strides", [1] * spatial), attribute(node, "dilations", [1] * spatial)
    first, last = tuple(pads[:spatial]), tuple(pads[spatial:])
    if first != last:
        x, first = _pad(x, pads, 0.0), (0,) * spatial
    convolution = (F.conv1d, F.conv2d, F.conv3d)[spatial - 1]
    y: Tensor = convolution(x, w, bias, tuple(strides), first, tuple(dilations), attribute(node, "group", 1))
    return y


def gemm(node: ir.Node, inputs: list[Any]) -> Tensor:
    a, b = inputs[:2]
    a = a.T if attribute(node, "transA", 0) else a
    b = b.T if attribute(node, "transB", 0) else b
    y: Tensor = attribute(node, "alpha", 1.0) * (a @ b)
    return y if len(inputs) < 3 or inputs[2] is None else y + attribute(node, "beta", 1.0) * inputs[2]


def batch_norm(node: ir.Node, inputs: list[Any]) -> Tensor:
    x, gamma, beta, mean, variance = inputs
    return F.batch_norm(x, mean, variance, gamma, beta, False, 0.0, attribute(node, "epsilon", 1e-5))


def layer_norm(node: ir.Node, inputs: list[Any]) -> Tensor:
    x, axis = inputs[0], attribute(node, "axis", -1)
    if len(node.outputs) > 1:
        raise QuantizationError(f"{node.name}: only the first output of LayerNormalization is supported")
    bias = inputs[2] if len(inputs) > 2 else None
    return F.layer_norm(x, x.shape[axis:], inputs[1], bias, attribute(node, "epsilon", 1e-5))


def max_pool(node: ir.Node, inputs: list[Any]) -> Tensor:
    """With ceil_mode, a window that would begin in the padding after the input is left out (ONNX and torch alike)."""
    kernel, pads = attribute(node, "kernel_shape"), attribute(node, "pads", [0, 0, 0, 0])
    strides, dilations = attribute(node, "strides", [1, 1]), attribute(node, "dilations", [1, 1])
    ceil_mode = bool(attribute(node, "ceil_mode", 0))
    y = F.max_pool2d(_pad(inputs[0], pads, -torch.inf), tuple(kernel), tuple(strides), 0, tuple(dilations), ceil_mode)
    sizes = zip(inputs[0].shape[2:], pads[:2], strides, strict=True)
    rows, columns = (-(-(size + before) // stride) for size, before, stride in sizes)
    return y[:, :, :rows, :columns]


def average_pool(node: ir.Node, inputs: list[Any]) -> Tensor:
    kernel, strides = tuple(attribute(node, "kernel_shape")), tuple(attribute(node, "strides", [1, 1]))
    top, left, bottom, right = attribute(node, "pads", [0, 0, 0, 0])
    if (top, left) != (bottom, right):
        pads = (top, left, bottom, right)
        raise QuantizationError(f"{node.name}: AveragePool with asymmetric pads {pads} is not supported")
    ceil_mode, counts_pads = bool(attribute(node, "ceil_mode", 0)), bool(attribute(node, "count_include_pad", 0))
    return F.avg_pool2d(inputs[0], kernel, strides, (top, left), ceil_mode, counts_pads)


def global_average_pool(node: ir.Node, inputs: list[Any]) -> Tensor:
    return torch.as_tensor(inputs[0].mean((2, 3), keepdim=True))
