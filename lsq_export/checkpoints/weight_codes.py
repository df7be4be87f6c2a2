"""Codes of weights, as the libraries' simulations round them in float32, and the axis that their scales are along."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from calib.errors import QuantizationError
from calib.words import counted
from lsq_export.qat.layer_types import QUANTIZED_LAYERS, TRANSPOSED, output_channels

from .layer_values import turned, weight_of
from .learned import Learned


def axis_of_lists(grids: Mapping[str, Learned], layers: Mapping[str, nn.Module]) -> int:
    """The axis of layers' own weights that fits all lists of scales, where a library has one for all layers (Quark)."""
    lists = [(grid.scale.size, layers[name]) for name, grid in grids.items() if len(grid.raw.shape) == 1]
    found = [(size, weight_of(layer)) for size, layer in lists if size > 1 and isinstance(layer, QUANTIZED_LAYERS)]
    return int(any(size != len(weight) for size, weight in found))


def with_axis(grid: Learned, name: str, layer: nn.Module, axis_of_lists: int | None) -> Learned:
    """The grid of the weight of a layer, with the axis that its scales are along, if that is not the outputs'.

    axis_of_lists: of the layer's own weight, that scales are along of which the file has a plain list; None: that of
    the outputs, if it fits. Errors (QuantizationError): as many scales as no axis has.
    """
    count = max(grid.scale.size, grid.first.size)
    if count == 1 or not isinstance(layer, QUANTIZED_LAYERS):
        return grid
    shape, channels = list(weight_of(layer).shape), output_channels(layer)
    outputs = 1 if isinstance(layer, TRANSPOSED) else 0
    fits = [axis for axis in (0, 1) if count == (channels if axis == outputs else shape[axis])]
    wide = [axis for axis, size in enumerate(grid.raw.shape) if size > 1]
    if len(grid.raw.shape) == len(shape):
        fits = [axis for axis in fits if wide == [axis]]
    elif axis_of_lists is not None:
        fits = [axis for axis in fits if axis == axis_of_lists]
    elif outputs in fits:
        fits = [outputs]
    if not fits:
        raise QuantizationError(
            f"{grid.raw.name}: {counted(count, 'scale')} for the {counted(channels, 'output channel')} of {name}: "
            "the checkpoint is of another network, or has a scale for each of several parts of a channel, which is not "
            "read"
        )
    return grid if fits[0] == outputs else replace(grid, inputs=fits[0])


def codes_of(layer: nn.Module, grid: Learned) -> torch.Tensor:
    """float32, output channels first, whole numbers: as the library rounds them, in float32."""
    weight = turned(layer, weight_of(layer))
    scale, first, last = (along(values, layer, grid) for values in (grid.scale, grid.first, grid.last))
    weight = weight - along(grid.offset, layer, grid)
    if grid.raw.steps == "ranged":
        steps = _of_range(weight, layer, grid)
    else:
        steps = weight * (1 / scale) if grid.raw.steps == "multiplied" else weight / scale
    whole = steps.round() if grid.raw.rounding == "half-even" else steps.sign() * (steps.abs() + 0.5).floor()
    return torch.maximum(torch.minimum(whole, last), first)


def _of_range(weight: torch.Tensor, layer: nn.Module, grid: Learned) -> torch.Tensor:
    """NNCF's arithmetic, which meets the ends of a range exactly: half of it, as of first layers, is 63.5 steps."""
    ends = (grid.scale * grid.last, grid.first / np.maximum(grid.last, 1), grid.last - grid.first)
    high, ratio, count = (along(end, layer, grid) for end in ends)
    low = high * ratio
    factor = count / (high - low)
    inside = torch.minimum(torch.maximum(weight, low), low + (high - low))
    return (inside - low) * factor - (-low * factor).round()


def along(values: np.ndarray, layer: nn.Module, grid: Learned) -> torch.Tensor:
    """float32; one number, or one for each channel, beside the weight of the layer with its output channels first."""
    tensor, weight = torch.from_numpy(np.ascontiguousarray(values.astype(np.float32))), weight_of(layer)
    if tensor.dim() == 0 or grid.inputs is None:
        return tensor if tensor.dim() == 0 else tensor.reshape(-1, *[1] * (weight.dim() - 1))
    shape = [1] * weight.dim()
    shape[grid.inputs] = -1
    return turned(layer, tensor.reshape(shape).expand(weight.shape))
