"""Evaluate a captured, a folded or a QDQ graph in floating point, with torch, in float64 or float32.

One table of operators serves the trained model (markers, E1), the folded model (QuantizeLinear/DequantizeLinear, E2)
and the calibration of edges. Codes are held in the floating type, which is exact: they have at most 32 bits. The
integer graph has an evaluator of its own that shares no code with this one (`lsq_export.integer`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
import torch.nn.functional as F

from calib.errors import QuantizationError
from calib.grid import codes_, position, snap_, values_

from .build import array_of, attribute, is_marker
from .float_operators import FUNCTIONS, MOVES

Tensor = torch.Tensor
OnValue = Callable[[str, Tensor], "Tensor | None"]
OnNode = Callable[[ir.Node, "list[Tensor | None]", Tensor], "Tensor | None"]
# Input numbers evaluated at once where every layer is held in float64: 98 images of 3×32×32, 2 of 3×224×224
PORTION = 2 * 3 * 224**2
CODE_LIMITS = {
    "UINT8": (0, 255),
    "INT8": (-128, 127),
    "UINT4": (0, 15),
    "INT4": (-8, 7),
    "UINT2": (0, 3),
    "INT2": (-2, 1),
}


def evaluate(
    graph: ir.Graph,
    x: Tensor | np.ndarray,
    *,
    dtype: torch.dtype = torch.float64,
    on_value: OnValue | None = None,
    on_node: OnNode | None = None,
) -> list[Tensor]:
    """Outputs of the graph for one input batch.

    on_value(name, value) sees every computed value in order; what it returns (if not None) takes the value's place,
    so that each layer can be fed with inputs from elsewhere. Tensors are freed after their last use.
    """
    values: dict[ir.Value, Tensor] = {graph.inputs[0]: torch.as_tensor(x).to(dtype)}
    last_use = _last_uses(graph)
    outputs = set(graph.outputs)
    with torch.no_grad():
        for index, node in enumerate(graph):
            inputs = [None if v is None else values[v] if v in values else _constant(v, dtype) for v in node.inputs]
            (target,) = node.outputs
            assert target.name is not None
            result = _apply(node, inputs)
            replaced = on_value(target.name, result) if on_value else on_node(node, inputs, result) if on_node else None
            values[target] = result if replaced is None else replaced.to(dtype)
            for v in last_use.get(index, ()):
                if v not in outputs:
                    values.pop(v, None)
    return [values[v] for v in graph.outputs]


def evaluate_node(node: ir.Node, x: Tensor, given: Mapping[int, Tensor]) -> Tensor:
    """One operator on x. given: {index: input} in place of what the graph has; the other inputs are constants."""
    inputs = [
        given[i] if i in given else None if v is None else _constant(v, x.dtype) for i, v in enumerate(node.inputs) if i
    ]
    return _apply(node, [x, *inputs])


def portions_of(images: Tensor) -> tuple[Tensor, ...]:
    """images [N, …] in parts of at most PORTION numbers, or of one image."""
    return images.split(max(1, PORTION // max(1, images[0].numel())))


def _last_uses(graph: ir.Graph) -> dict[int, list[ir.Value]]:
    last: dict[ir.Value, int] = {}
    for index, node in enumerate(graph):
        for v in node.inputs:
            if v is not None:
                last[v] = index
    by_node: dict[int, list[ir.Value]] = {}
    for v, index in last.items():
        by_node.setdefault(index, []).append(v)
    return by_node


def _constant(value: ir.Value, dtype: torch.dtype) -> Tensor:
    array = array_of(value)
    if array is None:
        raise QuantizationError(f"{value.name}: the graph reads this value before it is made")
    if value.dtype is not None and value.dtype.is_integer() and array.dtype == np.int64:
        return torch.from_numpy(array.copy())  # shapes and axes stay integers
    return torch.from_numpy(np.asarray(array).astype(np.float64)).to(dtype)


def _apply(node: ir.Node, inputs: list[Any]) -> Tensor:
    handler = _fake_quantize if is_marker(node) else OPERATORS.get(node.op_type) if node.domain == "" else None
    if handler is None:
        raise QuantizationError(
            f"{node.name}: no float evaluation for the operator {node.domain or 'onnx'}::{node.op_type}"
        )
    return handler(node, inputs)


def _fake_quantize(node: ir.Node, inputs: list[Any]) -> Tensor:
    if len(inputs) == 1:  # an edge that is not calibrated yet
        return inputs[0]
    x = inputs[
        0
    ]  # axis: one scale for each output channel of a weight; one offset for each channel of merged convolutions
    scale, offset = (along_axis(node, v, x.dim()) for v in inputs[1:])
    return snap_(position(x, scale, offset), scale, offset, attribute(node, "qmin"), attribute(node, "qmax"))


def along_axis(node: ir.Node, parameter: Tensor, rank: int) -> Tensor:
    """A scale, offset or zero point [] or [C], shaped to go with a tensor of that rank."""
    if parameter.dim() == 0 or rank == 0:
        return parameter
    axis = attribute(node, "axis", 1) % rank
    return parameter.reshape([-1 if i == axis else 1 for i in range(rank)])


def _quantize_linear(node: ir.Node, inputs: list[Any]) -> Tensor:
    """The network is given float32 numbers, and ONNX divides them in float32:

    pixels on ties of their grid get the code that they get everywhere.
    """
    x, scale, zero_point = inputs
    low, high = CODE_LIMITS[node.inputs[2].dtype.name]  # type: ignore[union-attr]
    division = torch.float32 if node.inputs[0].is_graph_input() else x.dtype  # type: ignore[union-attr]
    v = position(x.to(division), along_axis(node, scale.to(division), x.dim()), None).to(x.dtype)
    return codes_(v, low, high, along_axis(node, zero_point, x.dim()))


def _dequantize_linear(node: ir.Node, inputs: list[Any]) -> Tensor:
    c, scale = inputs[:2]
    zero_point = along_axis(node, inputs[2], c.dim()) if len(inputs) > 2 and inputs[2] is not None else 0
    return values_(c, along_axis(node, scale, c.dim()), zero_point)


def _pad(x: Tensor, pads: Any, value: float) -> Tensor:
    top, left, bottom, right = pads
    return F.pad(x, (left, right, top, bottom), value=value) if any(pads) else x


def _conv(node: ir.Node, inputs: list[Any]) -> Tensor:
    x, w = inputs[:2]
    bias = inputs[2] if len(inputs) > 2 else None
    spatial = w.dim() - 2
    pads = attribute(node, "pads", [0] * (2 * spatial))
    strides, dilations = attribute(node, "strides", [1] * spatial), attribute(node, "dilations", [1] * spatial)
    before, behind = tuple(pads[:spatial]), tuple(pads[spatial:])
    if before != behind:
        x, before = _pad(x, pads, 0.0), (0,) * spatial
    return F.conv2d(x, w, bias, tuple(strides), before, tuple(dilations), attribute(node, "group", 1))


def _batch_norm(node: ir.Node, inputs: list[Any]) -> Tensor:
    x, gamma, beta, mean, variance = inputs
    return F.batch_norm(x, mean, variance, gamma, beta, False, 0.0, attribute(node, "epsilon", 1e-5))


def _gemm(node: ir.Node, inputs: list[Any]) -> Tensor:
    a, b = inputs[:2]
    a = a.T if attribute(node, "transA", 0) else a
    b = b.T if attribute(node, "transB", 0) else b
    y = attribute(node, "alpha", 1.0) * (a @ b)
    return y if len(inputs) < 3 or inputs[2] is None else y + attribute(node, "beta", 1.0) * inputs[2]


def _max_pool(node: ir.Node, inputs: list[Any]) -> Tensor:
    """With ceil_mode, a window that would begin in the padding behind the input is left out (ONNX and torch alike)."""
    kernel, pads, ceil_mode = (
        attribute(node, "kernel_shape"),
        attribute(node, "pads", [0, 0, 0, 0]),
        bool(attribute(node, "ceil_mode", 0)),
    )
    strides, dilations = attribute(node, "strides", [1, 1]), attribute(node, "dilations", [1, 1])
    y = F.max_pool2d(_pad(inputs[0], pads, -torch.inf), tuple(kernel), tuple(strides), 0, tuple(dilations), ceil_mode)
    rows, columns = (
        -(-(size + before) // stride)
        for size, before, stride in zip(inputs[0].shape[2:], pads[:2], strides, strict=True)
    )
    return y[:, :, :rows, :columns]


def _average_pool(node: ir.Node, inputs: list[Any]) -> Tensor:
    kernel, strides = tuple(attribute(node, "kernel_shape")), tuple(attribute(node, "strides", [1, 1]))
    top, left, bottom, right = attribute(node, "pads", [0, 0, 0, 0])
    if (top, left) != (bottom, right):
        raise QuantizationError(
            f"{node.name}: AveragePool with asymmetric pads {(top, left, bottom, right)} is not supported"
        )
    counts_pads = bool(attribute(node, "count_include_pad", 0))
    return F.avg_pool2d(inputs[0], kernel, strides, (top, left), bool(attribute(node, "ceil_mode", 0)), counts_pads)


def _clip(node: ir.Node, inputs: list[Any]) -> Tensor:
    low = inputs[1] if len(inputs) > 1 else None
    high = inputs[2] if len(inputs) > 2 else None
    return torch.clamp(inputs[0], min=low, max=high)


def _reshape(node: ir.Node, inputs: list[Any]) -> Tensor:
    x, shape = inputs
    keep_zero = bool(attribute(node, "allowzero", 0))
    return x.reshape([x.shape[i] if size == 0 and not keep_zero else size for i, size in enumerate(shape.tolist())])


def _flatten(node: ir.Node, inputs: list[Any]) -> Tensor:
    x, axis = inputs[0], attribute(node, "axis", 1)
    return x.reshape(int(np.prod(x.shape[:axis], initial=1)), -1)


OPERATORS: Mapping[str, Callable[[ir.Node, list[Any]], Tensor]] = {
    "Add": lambda node, i: i[0] + i[1],
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Concat": lambda node, i: torch.cat(i, dim=attribute(node, "axis")),
    "Conv": _conv,
    "DequantizeLinear": _dequantize_linear,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda node, i: i[0].mean((2, 3), keepdim=True),
    "Identity": lambda node, i: i[0],
    "MaxPool": _max_pool,
    "Mul": lambda node, i: i[0] * i[1],
    "Min": lambda node, i: torch.minimum(i[0], i[1]),
    "QuantizeLinear": _quantize_linear,
    "Relu": lambda node, i: i[0].clamp(min=0),
    "Reshape": _reshape,
    "Sigmoid": lambda node, i: torch.sigmoid(i[0]),
    "Transpose": lambda node, i: i[0].permute(tuple(attribute(node, "perm", list(range(i[0].dim()))[::-1]))),
    **MOVES,
    **FUNCTIONS,
}
