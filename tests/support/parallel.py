"""Convolutions side by side, as in MixNet: depthwise kernels of two sizes, then two 1×1 convolutions."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from support.networks import LOW, Case, Conv, Wired, norm

Items = tuple[tuple[str, Any], ...]
STEPS = {"d3.input": -0.3, "d5.input": -0.45, "p1.input": -1.2, "p2.input": 0.7, "fc.input": -0.1}


def mixed(
    activation: Any = F.silu, kernels: tuple[int, int] = (3, 5), shares: tuple[int, int] = (5, 3), stride: int = 1
) -> nn.Module:
    """Depthwise kernels of two sizes, then two 1×1 convolutions."""

    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        h = activation(s.bn(s.stem(x)))
        a, b = torch.split(h, list(shares), 1)
        h = activation(s.bn2(torch.cat([s.d3(a), s.d5(b)], 1)))
        a, b = torch.split(h, [4, 4], 1)
        return s.fc(F.relu(torch.cat([s.p1(a), s.p2(b)], 1)))

    depthwise = [Conv(n, n, k, stride, padding=k // 2, groups=n) for n, k in zip(shares, kernels, strict=True)]
    return Wired(
        forward,
        stem=Conv(3, 8, 3, padding=1),
        bn=norm(8),
        d3=depthwise[0],
        d5=depthwise[1],
        bn2=norm(8),
        p1=Conv(4, 6, 1),
        p2=Conv(4, 6, 1),
        fc=Conv(12, 4, 1),
    )


def case_of(activation: Any = F.silu, bits: int = 4, offsets: dict[str, float] = STEPS, **keywords: Any) -> Case:
    """The same object for the same arguments. keywords: of `mixed`."""
    return _case_of(activation, bits, tuple(offsets.items()), tuple(keywords.items()))


@cache
def _case_of(activation: Any, bits: int, offsets: Items, keywords: Items) -> Case:
    config = {**LOW, "weight_bits": bits, "activation_bits": bits}
    return Case(lambda: mixed(activation, **dict(keywords)), config, offsets=dict(offsets))
