"""The blocks of EfficientNet (arXiv:1905.11946) and MixNet (arXiv:1907.09595), with the parameter names of timm.

Convolutions have no bias (except in squeeze-and-excitation) and pad symmetrically, kernel // 2 on each side. Every
activation is a module of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class BlockSpec:
    """One row of an architecture's table: `repeats` equal blocks, the first with `stride`.

    kernels         sizes of the depthwise kernels, each on its share of the channels
    expansion       hidden channels = expansion · input channels; 1 is a `DepthwiseSeparable`, without the expanding
                    convolution
    se              channels inside squeeze-and-excitation = se · input channels of the block; 0: none
    expand_groups, project_groups   how many convolutions side by side the two 1x1 convolutions are
    """

    repeats: int
    kernels: tuple[int, ...]
    stride: int
    expansion: int
    channels: int
    se: float
    activation: Callable[[], nn.Module]
    expand_groups: int = 1
    project_groups: int = 1


class SqueezeExcite(nn.Module):
    """x · sigmoid(expand(act(reduce(mean of x over H and W)))), arXiv:1709.01507.

    [N, channels, H, W] -> the same shape
    """

    def __init__(self, channels: int, reduced: int, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.conv_reduce = nn.Conv2d(channels, reduced, 1)
        self.act1 = activation()
        self.conv_expand = nn.Conv2d(reduced, channels, 1)
        self.gate = nn.Sigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.mean((2, 3), keepdim=True)  # [N, channels, 1, 1]
        gate: torch.Tensor = self.gate(self.conv_expand(self.act1(self.conv_reduce(y))))
        return x * gate


class MixedConv2d(nn.ModuleList):
    """MixConv (arXiv:1907.09595, section 3): one part of the channels per kernel size, each with its own convolution.

    [N, in_channels, H, W] -> [N, out_channels, ceil(H/stride), ceil(W/stride)]
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernels: Sequence[int], stride: int = 1, depthwise: bool = False
    ) -> None:
        inputs, outputs = _split(in_channels, len(kernels)), _split(out_channels, len(kernels))
        super().__init__(_conv(i, o, (k,), stride, depthwise) for i, o, k in zip(inputs, outputs, kernels, strict=True))
        self.splits = inputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = torch.split(x, self.splits, 1)
        return torch.cat([conv(parts[index]) for index, conv in enumerate(self)], 1)


class DepthwiseSeparable(nn.Module):
    """bn2(conv_pw(se(act(bn1(conv_dw(x)))))), plus x where the shape stays (arXiv:1801.04381 without its expansion).

    [N, in_channels, H, W] -> [N, channels, ceil(H/stride), ceil(W/stride)]
    """

    def __init__(self, spec: BlockSpec, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = _conv(in_channels, in_channels, spec.kernels, stride, depthwise=True)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.act1 = spec.activation()
        self.se = _squeeze_excite(spec, in_channels, in_channels)
        self.conv_pw = _conv(in_channels, channels, (1,) * spec.project_groups)
        self.bn2 = nn.BatchNorm2d(channels)
        self.has_skip = stride == 1 and in_channels == channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.act1(self.bn1(self.conv_dw(x)))  # [N, in_channels, H/stride, W/stride]
        if self.se is not None:
            y = self.se(y)
        y = self.bn2(self.conv_pw(y))
        return y + x if self.has_skip else y


class InvertedResidual(nn.Module):
    """bn3(conv_pwl(se(act(bn2(conv_dw(act(bn1(conv_pw(x)))))))), plus x where the shape stays.

    It is also called MBConv (arXiv:1801.04381, section 3.3).

    [N, in_channels, H, W] -> [N, channels, ceil(H/stride), ceil(W/stride)]
    """

    def __init__(self, spec: BlockSpec, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        hidden = in_channels * spec.expansion
        self.conv_pw = _conv(in_channels, hidden, (1,) * spec.expand_groups)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.act1 = spec.activation()
        self.conv_dw = _conv(hidden, hidden, spec.kernels, stride, depthwise=True)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.act2 = spec.activation()
        self.se = _squeeze_excite(spec, in_channels, hidden)
        self.conv_pwl = _conv(hidden, channels, (1,) * spec.project_groups)
        self.bn3 = nn.BatchNorm2d(channels)
        self.has_skip = stride == 1 and in_channels == channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.act1(self.bn1(self.conv_pw(x)))  # [N, hidden, H, W]
        y = self.act2(self.bn2(self.conv_dw(y)))  # [N, hidden, H/stride, W/stride]
        if self.se is not None:
            y = self.se(y)
        y = self.bn3(self.conv_pwl(y))
        return y + x if self.has_skip else y


def _squeeze_excite(spec: BlockSpec, in_channels: int, channels: int) -> SqueezeExcite | None:
    return SqueezeExcite(channels, int(in_channels * spec.se), spec.activation) if spec.se else None


def _conv(
    in_channels: int, out_channels: int, kernels: Sequence[int], stride: int = 1, depthwise: bool = False
) -> nn.Module:
    """A plain convolution for one kernel size, mixed ones for more."""
    if len(kernels) > 1:
        return MixedConv2d(in_channels, out_channels, kernels, stride, depthwise)
    (kernel,) = kernels
    return nn.Conv2d(
        in_channels, out_channels, kernel, stride, kernel // 2, groups=in_channels if depthwise else 1, bias=False
    )


def _split(channels: int, parts: int) -> list[int]:
    """Equal shares; the first takes what is left over."""
    share = channels // parts
    return [channels - share * (parts - 1)] + [share] * (parts - 1)
