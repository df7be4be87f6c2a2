"""Weights and biases of layers as tensors, the weights of transposed convolutions with their output channels first."""

from __future__ import annotations

import torch
from torch import nn

from lsq_export.qat.layer_types import parametrization
from lsq_export.qat.quantizer import Quantizer


def weight_of(layer: nn.Module) -> torch.Tensor:
    """As the layer has it; writing to it changes the layer."""
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    return weight.detach()


def bias_of(layer: nn.Module) -> torch.Tensor | None:
    """Writing to it changes the layer."""
    bias = getattr(layer, "bias", None)
    return bias.detach() if isinstance(bias, torch.Tensor) else None


def turned(layer: nn.Module, weight: torch.Tensor) -> torch.Tensor:
    """The weight of a layer with its output channels first, or back in the layer's own order."""
    made = parametrization(layer, Quantizer.weight("", 8))
    return weight if isinstance(made, Quantizer) else made.swapped(weight)  # type: ignore[operator]
