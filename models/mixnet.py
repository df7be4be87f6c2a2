"""MixNet-S (Tan and Le, arXiv:1907.09595, figure 5) with the state-dict names of timm."""

from __future__ import annotations

from torch import nn

from .blocks import BlockSpec
from .inverted import InvertedResidualNet

# ReLU in the stem, in the first two stages and in the head, SiLU (swish) in between.
STAGES = (
    # repeats, kernels, stride, expansion, channels, squeeze-and-excitation, activation, groups of the 1x1 convolutions
    (BlockSpec(1, (3,), 1, 1, 16, 0, nn.ReLU),),
    (
        BlockSpec(1, (3,), 2, 6, 24, 0, nn.ReLU, 2, 2),
        BlockSpec(1, (3,), 1, 3, 24, 0, nn.ReLU, 2, 2),
    ),
    (
        BlockSpec(1, (3, 5, 7), 2, 6, 40, 0.5, nn.SiLU),
        BlockSpec(3, (3, 5), 1, 6, 40, 0.5, nn.SiLU, 2, 2),
    ),
    (
        BlockSpec(1, (3, 5, 7), 2, 6, 80, 0.25, nn.SiLU, 1, 2),
        BlockSpec(2, (3, 5), 1, 6, 80, 0.25, nn.SiLU, 1, 2),
    ),
    (
        BlockSpec(1, (3, 5, 7), 1, 6, 120, 0.5, nn.SiLU, 2, 2),
        BlockSpec(2, (3, 5, 7, 9), 1, 3, 120, 0.5, nn.SiLU, 2, 2),
    ),
    (
        BlockSpec(1, (3, 5, 7, 9, 11), 2, 6, 200, 0.5, nn.SiLU),
        BlockSpec(2, (3, 5, 7, 9), 1, 6, 200, 0.5, nn.SiLU, 1, 2),
    ),
)


def mixnet_s(num_classes: int = 1000, in_channels: int = 3, width: float = 1.0, stem_stride: int = 2) -> nn.Module:
    """MixNet-S with fresh weights: images [N, in_channels, H, W] -> logits [N, num_classes].

    Any H, W >= 1; made for 224. The paper's dropout is left out.

    width: factor on all channels, rounded to multiples of 8.
    stem_stride: 1 keeps the resolution of small images (32x32) in the stem.
    """
    return InvertedResidualNet(
        STAGES,
        stem=16,
        head=1536,
        activation=nn.ReLU,
        num_classes=num_classes,
        in_channels=in_channels,
        width=width,
        stem_stride=stem_stride,
    )
