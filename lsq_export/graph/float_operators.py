"""Float meanings of further operators, with torch:

those that move elements, and functions of values. `evaluate` has the table that uses them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
import torch.nn.functional as F

from calib.errors import QuantizationError

from .build import attribute

Tensor = torch.Tensor


def _nearest_indices(size: int, scale: float) -> Tensor:
    """[int(size · scale)] indices that Resize reads along one axis:

    floor(i / scale) in float32, as ONNX Runtime computes them.
    """
    step = torch.tensor(scale, dtype=torch.float32)
    places = torch.arange(int(torch.tensor(size, dtype=torch.float32) * step), dtype=torch.float32)
    return (places / step).floor().clamp(0, size - 1).long()


def _resize(node: ir.Node, inputs: list[Any]) -> Tensor:
    x, scales = inputs[0], inputs[2].tolist()
    for axis, scale in enumerate(scales):
        if scale != 1:
            x = x.index_select(axis, _nearest_indices(x.shape[axis], scale))
    return x


def _pad(node: ir.Node, inputs: list[Any]) -> Tensor:
    x, pads, mode = inputs[0], inputs[1].tolist(), attribute(node, "mode", "constant")
    sides = list(zip(pads[: x.dim()], pads[x.dim() :], strict=True))
    if mode == "constant":
        return F.pad(x, [count for pair in reversed(sides) for count in pair], value=float(inputs[2]))
    for axis, pair in enumerate(sides):
        if any(pair):
            x = x.index_select(axis, torch.from_numpy(np.pad(np.arange(x.shape[axis]), pair, mode)))
    return x


def _slice(node: ir.Node, inputs: list[Any]) -> Tensor:
    x, starts, ends = inputs[0], inputs[1].tolist(), inputs[2].tolist()
    axes = inputs[3].tolist() if len(inputs) > 3 and inputs[3] is not None else list(range(len(starts)))
    steps = inputs[4].tolist() if len(inputs) > 4 and inputs[4] is not None else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = x.shape[axis]
        first, last = (v + size if v < 0 else v for v in (start, end))
        low, high = (
            (0, size) if step > 0 else (-1, size - 1)
        )  # ONNX clamps starts and ends, and counts a negative end from behind once
        places = range(min(max(first, max(low, 0)), high), min(max(last, low), size), step)
        x = x.index_select(axis % x.dim(), torch.tensor(list(places), dtype=torch.int64))
    return x


def _gather(node: ir.Node, inputs: list[Any]) -> Tensor:
    x, index, axis = inputs[0], inputs[1], attribute(node, "axis", 0) % inputs[0].dim()
    flat = index.reshape(-1) % x.shape[axis]
    return x.index_select(axis, flat).reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


def _squeeze(node: ir.Node, inputs: list[Any]) -> Tensor:
    return inputs[0].squeeze(tuple(inputs[1].tolist()))


def _unsqueeze(node: ir.Node, inputs: list[Any]) -> Tensor:
    x, axes = inputs
    rank = x.dim() + axes.numel()
    for axis in sorted(int(a) % rank for a in axes.reshape(-1)):
        x = x.unsqueeze(axis)
    return x


def _depth_to_space(node: ir.Node, inputs: list[Any]) -> Tensor:
    x, block = inputs[0], attribute(node, "blocksize")
    if attribute(node, "mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, block)
    n, c, h, w = x.shape
    parts = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return parts.reshape(n, c // block**2, h * block, w * block)


def _space_to_depth(node: ir.Node, inputs: list[Any]) -> Tensor:
    x, block = inputs[0], attribute(node, "blocksize")
    n, c, h, w = x.shape
    return (
        x.reshape(n, c, h // block, block, w // block, block)
        .permute(0, 3, 5, 1, 2, 4)
        .reshape(n, c * block**2, h // block, w // block)
    )


def _leaky_relu(node: ir.Node, inputs: list[Any]) -> Tensor:
    return torch.where(inputs[0] >= 0, inputs[0], attribute(node, "alpha", 0.01) * inputs[0])


def _gelu(node: ir.Node, inputs: list[Any]) -> Tensor:
    return F.gelu(inputs[0], approximate=attribute(node, "approximate", "none"))


def _layer_norm(node: ir.Node, inputs: list[Any]) -> Tensor:
    x, axis = inputs[0], attribute(node, "axis", -1)
    if len(node.outputs) > 1:
        raise QuantizationError(f"{node.name}: only the first output of LayerNormalization is supported")
    bias = inputs[2] if len(inputs) > 2 else None
    return F.layer_norm(x, x.shape[axis:], inputs[1], bias, attribute(node, "epsilon", 1e-5))


MOVES: Mapping[str, Callable[[ir.Node, list[Any]], Tensor]] = {
    "DepthToSpace": _depth_to_space,
    "Gather": _gather,
    "Pad": _pad,
    "Resize": _resize,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
}
FUNCTIONS: Mapping[str, Callable[[ir.Node, list[Any]], Tensor]] = {
    "Abs": lambda node, i: i[0].abs(),
    "Celu": lambda node, i: F.celu(i[0], attribute(node, "alpha", 1.0)),
    "Cos": lambda node, i: i[0].cos(),
    "Div": lambda node, i: i[0] / i[1],
    "Elu": lambda node, i: F.elu(i[0], attribute(node, "alpha", 1.0)),
    "Erf": lambda node, i: i[0].erf(),
    "Exp": lambda node, i: i[0].exp(),
    "Gelu": _gelu,
    "LayerNormalization": _layer_norm,
    "LeakyRelu": _leaky_relu,
    "Log": lambda node, i: i[0].log(),
    "LogSoftmax": lambda node, i: i[0].log_softmax(attribute(node, "axis", -1)),
    "MatMul": lambda node, i: i[0] @ i[1],
    "Mish": lambda node, i: F.mish(i[0]),
    "PRelu": lambda node, i: torch.where(i[0] >= 0, i[0], i[1] * i[0]),
    "Pow": lambda node, i: i[0] ** i[1],
    "Reciprocal": lambda node, i: i[0].reciprocal(),
    "Selu": lambda node, i: F.selu(i[0]),
    "Sin": lambda node, i: i[0].sin(),
    "Softmax": lambda node, i: i[0].softmax(attribute(node, "axis", -1)),
    "Softplus": lambda node, i: torch.logaddexp(i[0], torch.zeros_like(i[0])),
    "Softsign": lambda node, i: i[0] / (1 + i[0].abs()),
    "Sqrt": lambda node, i: i[0].sqrt(),
    "Tanh": lambda node, i: i[0].tanh(),
}
