"""EfficientNet-B0 (Tan and Le, arXiv:1905.11946, table 1) with the state-dict names of timm."""

from __future__ import annotations

from torch import nn

from .blocks import BlockSpec
from .inverted import InvertedResidualNet


def _stage(repeats: int, kernel: int, stride: int, expansion: int, channels: int) -> tuple[BlockSpec, ...]:
    return (BlockSpec(repeats, (kernel,), stride, expansion, channels, 0.25, nn.SiLU),)


STAGES = (
    # repeats, kernel, stride, expansion, channels
    _stage(1, 3, 1, 1, 16),
    _stage(2, 3, 2, 6, 24),
    _stage(2, 5, 2, 6, 40),
    _stage(3, 3, 2, 6, 80),
    _stage(3, 5, 1, 6, 112),
    _stage(4, 5, 2, 6, 192),
    _stage(1, 3, 1, 6, 320),
)


def efficientnet_b0(
    num_classes: int = 1000, in_channels: int = 3, width: float = 1.0, stem_stride: int = 2
) -> nn.Module:
    """EfficientNet-B0 with fresh weights: images [N, in_channels, H, W] -> logits [N, num_classes].

    Any H, W >= 1; made for 224. The paper's dropout and stochastic depth are left out.

    width: factor on all channels, rounded to multiples of 8.
    stem_stride: 1 keeps the resolution of small images (32x32) in the stem.
    """
    return InvertedResidualNet(
        STAGES,
        stem=32,
        head=1280,
        activation=nn.SiLU,
        num_classes=num_classes,
        in_channels=in_channels,
        width=width,
        stem_stride=stem_stride,
    )
