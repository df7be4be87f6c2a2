"""The layers that are quantized, and the weight of a transposed convolution in the order of any other."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.conv import _ConvTransposeNd

from .quantizer import Quantizer

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
QUANTIZED_LAYERS = (*CONVOLUTIONS, *TRANSPOSED, nn.Linear)
# Layers with weights that stay float, with the layers in them: no integer operator of ours computes them.
FLOAT_LAYERS = (nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention, nn.Embedding, nn.EmbeddingBag, nn.Bilinear)


class TransposedWeight(nn.Module):
    """Quantizes the weight of a transposed convolution, [C_in, C_out / groups, …], as [C_out, C_in / groups, …].

    So axis 0 of what the quantizer sees are the output channels, as in any other layer: a grid for each of them is one
    number in `scale`.
    """

    def __init__(self, quantizer: Quantizer, groups: int) -> None:
        super().__init__()
        self.quantizer, self.groups = quantizer, groups

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight, in its own order, on the grid."""
        swapped: torch.Tensor = self.quantizer(self.swapped(weight))
        return self.swapped(swapped)

    def right_inverse(self, value: torch.Tensor) -> torch.Tensor:
        """The float weight itself: torch.nn.utils.parametrize stores it at `layer.weight = value`."""
        return value

    def swapped(self, weight: torch.Tensor) -> torch.Tensor:
        """[g · a, b, …] => [g · b, a, …]; twice is nothing."""
        if self.groups == 1:
            return weight.transpose(0, 1)
        apart = weight.reshape(self.groups, -1, *weight.shape[1:]).transpose(1, 2)
        return torch.as_tensor(apart.flatten(0, 1))


def output_channels(layer: nn.Module) -> int:
    """Of one of QUANTIZED_LAYERS."""
    return int(layer.out_channels if isinstance(layer, (*CONVOLUTIONS, *TRANSPOSED)) else layer.out_features)  # type: ignore[arg-type]


def parametrization(layer: nn.Module, quantizer: Quantizer) -> nn.Module:
    """What computes the weight of the layer on its grid."""
    return TransposedWeight(quantizer, layer.groups) if isinstance(layer, _ConvTransposeNd) else quantizer
