"""The large networks."""

from __future__ import annotations

import torch
from torch import nn

WIDTH = 10_000  # of the layers of the perceptron


class Branches(nn.Module):
    """Two sums of parallel convolutions, depthwise and pointwise, each with a batch norm of its own."""

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        self.spatial, self.pointwise = (
            nn.ModuleList(
                nn.Sequential(nn.Conv2d(channels, channels, bias=False, **how), nn.BatchNorm2d(channels))  # type: ignore[arg-type]
                for _ in range(count)
            )
            for how in ({"kernel_size": 3, "padding": 1, "groups": channels}, {"kernel_size": 1})
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for branches in (self.spatial, self.pointwise):
            first, *others = branches
            total = first(x)
            for branch in others:
                total = total + branch(x)
            x = torch.relu(total)
        return x


def many_branches() -> nn.Module:
    """48 sums of 7 or 8 convolutions, 356 in all. Images [N, 3, 32, 32] -> [N, 10]."""
    blocks = [Branches(16, 7 if index < 14 else 8) for index in range(24)]
    stem, head = (nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU()), (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    return nn.Sequential(*stem, *blocks, *head).eval()


def perceptron(size: float) -> nn.Module:
    """Layers of 400 MB. size: of all weights, in GB. [N, 10000] -> [N, 10000]."""
    layers = max(1, round(size * 1e9 / (4 * WIDTH**2)))
    return nn.Sequential(*(part for _ in range(layers) for part in (nn.Linear(WIDTH, WIDTH), nn.ReLU()))).eval()
