"""Float meanings of the operators that move elements, with torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import torch
import torch.nn.functional as F

from calib.errors import QuantizationError

from .read import attribute

Tensor = torch.Tensor


def _nearest_indices(size: int, scale: float) -> Tensor:
    """[int(size · scale)] indices that Resize reads: floor(i / scale) in float32, as ONNX Runtime computes them."""
    step = torch.tensor(scale, dtype=torch.float32)
    places = torch.arange(int(torch.tensor(size, dtype=torch.float32) * step), dtype=torch.float32)
    return (places / step).floor().clamp(0, size - 1).long()


def resize(node: ir.Node, inputs: list[Any]) -> Tensor:
    """Mode nearest as torch has it, or linear, by scales."""
    x, scales = inputs[0], inputs[2].tolist()
    for axis, scale in enumerate(scales):
        if scale == 1:
            continue
        if attribute(node, "mode", "nearest") == "linear":
            x = _interpolated(node, x, axis, scale)
        else:
            x = x.index_select(axis, _nearest_indices(x.shape[axis], scale))
    return torch.as_tensor(x)


def _interpolated(node: ir.Node, x: Tensor, axis: int, scale: float) -> Tensor:
    """Along one axis, between the two nearest elements; the first and the last go on beyond the ends."""
    size, how = x.shape[axis], attribute(node, "coordinate_transformation_mode", "half_pixel")
    places = torch.arange(int(size * scale + 1e-4), dtype=torch.float64)
    if how == "align_corners":
        places = places * ((size - 1) / max(len(places) - 1, 1))
    elif how == "asymmetric":
        places = places / scale
    elif how == "half_pixel" or (how == "pytorch_half_pixel" and len(places) > 1):
        places = (places + 0.5) / scale - 0.5
    else:
        raise QuantizationError(f"{node.name}: a Resize with {how} has no float meaning here")
    places = places.clamp(0, size - 1)
    low = places.floor().long()
    share = (places - low).to(x.dtype).reshape(-1, *[1] * (x.dim() - axis - 1))
    return x.index_select(axis, low) * (1 - share) + x.index_select(axis, (low + 1).clamp(max=size - 1)) * share


def pad(node: ir.Node, inputs: list[Any]) -> Tensor:
    x, pads, mode = inputs[0], inputs[1].tolist(), attribute(node, "mode", "constant")
    axes = inputs[3].tolist() if len(inputs) > 3 and inputs[3] is not None else range(x.dim())
    sides = [(0, 0)] * x.dim()
    for axis, first, last in zip(axes, pads[: len(pads) // 2], pads[len(pads) // 2 :], strict=True):
        sides[axis] = (first, last)
    if mode == "constant":
        value = float(inputs[2]) if len(inputs) > 2 and inputs[2] is not None else 0.0
        return F.pad(x, [count for pair in reversed(sides) for count in pair], value=value)
    for axis, pair in enumerate(sides):
        if any(pair):
            x = x.index_select(axis, torch.from_numpy(np.pad(np.arange(x.shape[axis]), pair, mode)))
    return torch.as_tensor(x)


def slice_(node: ir.Node, inputs: list[Any]) -> Tensor:
    x, starts, ends = inputs[0], inputs[1].tolist(), inputs[2].tolist()
    axes = inputs[3].tolist() if len(inputs) > 3 and inputs[3] is not None else list(range(len(starts)))
    steps = inputs[4].tolist() if len(inputs) > 4 and inputs[4] is not None else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = x.shape[axis]
        first, last = (v + size if v < 0 else v for v in (start, end))
        # ONNX clamps starts and ends, and counts a negative end from behind once
        low, high = (0, size) if step > 0 else (-1, size - 1)
        places = range(min(max(first, max(low, 0)), high), min(max(last, low), size), step)
        x = x.index_select(axis % x.dim(), torch.tensor(list(places), dtype=torch.int64))
    return torch.as_tensor(x)


def gather(node: ir.Node, inputs: list[Any]) -> Tensor:
    x, index, axis = inputs[0], inputs[1], attribute(node, "axis", 0) % inputs[0].dim()
    flat = index.reshape(-1) % x.shape[axis]
    shape = (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])
    return torch.as_tensor(x.index_select(axis, flat).reshape(shape))


def squeeze(node: ir.Node, inputs: list[Any]) -> Tensor:
    axes = inputs[1] if len(inputs) > 1 else None  # None: all of one element
    return torch.as_tensor(inputs[0].squeeze() if axes is None else inputs[0].squeeze(tuple(axes.tolist())))


def unsqueeze(node: ir.Node, inputs: list[Any]) -> Tensor:
    x, axes = inputs
    rank = x.dim() + axes.numel()
    for axis in sorted(int(a) % rank for a in axes.reshape(-1)):
        x = x.unsqueeze(axis)
    return torch.as_tensor(x)


def depth_to_space(node: ir.Node, inputs: list[Any]) -> Tensor:
    x, block = inputs[0], attribute(node, "blocksize")
    if attribute(node, "mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, block)
    n, c, h, w = x.shape
    parts = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return torch.as_tensor(parts.reshape(n, c // block**2, h * block, w * block))


def space_to_depth(node: ir.Node, inputs: list[Any]) -> Tensor:
    x, block = inputs[0], attribute(node, "blocksize")
    n, c, h, w = x.shape
    parts = x.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
    return torch.as_tensor(parts.reshape(n, c * block**2, h // block, w // block))


def reshape(node: ir.Node, inputs: list[Any]) -> Tensor:
    x, shape = inputs
    keep_zero = bool(attribute(node, "allowzero", 0))
    sizes = [x.shape[i] if size == 0 and not keep_zero else size for i, size in enumerate(shape.tolist())]
    return torch.as_tensor(x.reshape(sizes))


def flatten(node: ir.Node, inputs: list[Any]) -> Tensor:
    x, axis = inputs[0], attribute(node, "axis", 1)
    return torch.as_tensor(x.reshape(int(np.prod(x.shape[:axis], initial=1)), -1))


def transpose(node: ir.Node, inputs: list[Any]) -> Tensor:
    backwards = list(range(inputs[0].dim()))[::-1]
    return torch.as_tensor(inputs[0].permute(tuple(attribute(node, "perm", backwards))))


def split(node: ir.Node, inputs: list[Any]) -> tuple[Tensor, ...]:
    """Parts of the sizes of the second input, or equal ones."""
    x, axis = inputs[0], attribute(node, "axis", 0)
    if len(inputs) > 1 and inputs[1] is not None:
        return tuple(x.split(inputs[1].tolist(), axis))
    return tuple(x.split(-(-x.shape[axis] // len(node.outputs)), axis))
