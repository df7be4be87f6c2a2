"""Float meanings of convolutions, products with weights, norms and pools, with torch."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import torch
import torch.nn.functional as F

from calib.errors import QuantizationError

from .read import attribute

Tensor = torch.Tensor


CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
MAX_POOLS, AVERAGE_POOLS = (F.max_pool1d, F.max_pool2d, F.max_pool3d), (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)


def _pad(x: Tensor, pads: Any, value: float) -> Tensor:
    """pads: those at the start of each spatial axis, then those at the end."""
    spatial = len(pads) // 2
    sides = [count for axis in reversed(range(spatial)) for count in (pads[axis], pads[spatial + axis])]
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
    convolution: Any = CONVOLUTIONS[spatial - 1]
    y: Tensor = convolution(x, w, bias, tuple(strides), first, tuple(dilations), attribute(node, "group", 1))
    return y


def conv_transpose(node: ir.Node, inputs: list[Any]) -> Tensor:
    x, w = inputs[:2]
    bias = inputs[2] if len(inputs) > 2 else None
    spatial = w.dim() - 2
    pads = attribute(node, "pads", [0] * (2 * spatial))
    if pads[:spatial] != pads[spatial:]:
        raise QuantizationError(f"{node.name}: ConvTranspose with asymmetric pads {tuple(pads)} is not supported")
    ones, zeros = [1] * spatial, [0] * spatial
    strides, more = attribute(node, "strides", ones), attribute(node, "output_padding", zeros)
    transposed: Any = TRANSPOSED[spatial - 1]
    geometry = (tuple(strides), tuple(pads[:spatial]), tuple(more), attribute(node, "group", 1))
    y: Tensor = transposed(x, w, bias, *geometry, tuple(attribute(node, "dilations", ones)))
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
    x, kernel = inputs[0], attribute(node, "kernel_shape")
    spatial = len(kernel)
    pads, ones = attribute(node, "pads", [0] * (2 * spatial)), [1] * spatial
    strides, dilations = attribute(node, "strides", ones), attribute(node, "dilations", ones)
    ceil_mode, pool = bool(attribute(node, "ceil_mode", 0)), MAX_POOLS[spatial - 1]
    y = torch.as_tensor(pool(_pad(x, pads, -torch.inf), tuple(kernel), tuple(strides), 0, tuple(dilations), ceil_mode))
    for axis, (size, before, stride) in enumerate(zip(x.shape[2:], pads[:spatial], strides, strict=True)):
        y = y.narrow(2 + axis, 0, min(y.shape[2 + axis], -(-(size + before) // stride)))
    return y


def average_pool(node: ir.Node, inputs: list[Any]) -> Tensor:
    kernel = tuple(attribute(node, "kernel_shape"))
    spatial = len(kernel)
    strides, pads = tuple(attribute(node, "strides", [1] * spatial)), attribute(node, "pads", [0] * (2 * spatial))
    ceil_mode, counts_pads = bool(attribute(node, "ceil_mode", 0)), bool(attribute(node, "count_include_pad", 0))
    pool: Any = AVERAGE_POOLS[spatial - 1]
    if tuple(pads[:spatial]) == tuple(pads[spatial:]):
        y: Tensor = pool(inputs[0], kernel, strides, tuple(pads[:spatial]), ceil_mode, counts_pads)
        return y
    if ceil_mode:
        raise QuantizationError(f"{node.name}: an AveragePool of pads {tuple(pads)} with ceil_mode is not supported")
    means = pool(_pad(inputs[0], pads, 0.0), kernel, strides)
    if counts_pads:
        return torch.as_tensor(means)
    return torch.as_tensor(means / pool(_pad(torch.ones_like(inputs[0][:1, :1]), pads, 0.0), kernel, strides))


def global_average_pool(node: ir.Node, inputs: list[Any]) -> Tensor:
    return torch.as_tensor(inputs[0].mean(tuple(range(2, inputs[0].dim())), keepdim=True))
