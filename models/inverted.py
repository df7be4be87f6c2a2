"""What EfficientNet (arXiv:1905.11946) and MixNet (arXiv:1907.09595) share.

That is a stem, stages of inverted residual blocks and a head.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn

from calib.errors import QuantizationError

from .blocks import BlockSpec, DepthwiseSeparable, InvertedResidual


class InvertedResidualNet(nn.Module):
    """Images [N, in_channels, H, W] -> logits [N, num_classes]; any H, W >= 1.

    stages        the rows of each stage
    stem, head    channels of the first and of the last convolution
    activation    what follows these two
    width         factor on all channels, rounded by `round_channels`
    stem_stride   2 as published, 1 for small images

    There is no dropout. Errors (QuantizationError): a width or a stride that cannot be used.
    """

    def __init__(
        self,
        stages: Sequence[Sequence[BlockSpec]],
        *,
        stem: int,
        head: int,
        activation: Callable[[], nn.Module],
        num_classes: int,
        in_channels: int,
        width: float,
        stem_stride: int,
    ) -> None:
        super().__init__()
        if not (math.isfinite(width) and width > 0):
            raise QuantizationError(f"width is {width}: use a positive number, 1.0 as published")
        if stem_stride not in (1, 2):
            raise QuantizationError(f"stem_stride is {stem_stride}: use 2 as published, or 1 for small images")
        channels = round_channels(stem * width)
        self.conv_stem = nn.Conv2d(in_channels, channels, 3, stem_stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.act1 = activation()
        self.blocks = nn.Sequential()
        for rows in stages:
            stage = nn.Sequential()
            for row in rows:
                for repeat in range(row.repeats):
                    block = DepthwiseSeparable if row.expansion == 1 else InvertedResidual
                    out_channels = round_channels(row.channels * width)
                    stage.append(block(row, channels, out_channels, row.stride if repeat == 0 else 1))
                    channels = out_channels
            self.blocks.append(stage)
        features = round_channels(head * width)
        self.conv_head = nn.Conv2d(channels, features, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(features)
        self.act2 = activation()
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(features, num_classes)
        _initialize(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act1(self.bn1(self.conv_stem(x)))  # [N, stem, H/stem_stride, W/stem_stride]
        x = self.blocks(x)  # 1/16 of that
        x = self.act2(self.bn2(self.conv_head(x)))  # [N, head, …]
        logits: torch.Tensor = self.classifier(torch.flatten(self.global_pool(x), 1))
        return logits


def round_channels(channels: float) -> int:
    """The nearest multiple of 8, at least 8 and at least 90 % of `channels` (arXiv:1905.11946 and its predecessors)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _initialize(model: nn.Module) -> None:
    """Draw convolutions from a normal distribution, variance 2 / (kernel area · output channels per group); biases: 0.

    The linear layer keeps PyTorch's uniform ±1/√features. The published ±1/√classes is about the same at 1000 classes
    and far too much at 10.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
            nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))
        if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
            nn.init.zeros_(module.bias)
