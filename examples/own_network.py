"""A network of your own that the command line can build: --model examples.own_network:OwnNetwork (in the checkout)."""

import torch
from torch import nn


class Gate(nn.Module):
    """Squeeze-and-excitation: [N, C, H, W] times a gate for each channel, which sees the whole image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            *(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels // 4, 1), nn.SiLU()),
            *(nn.Conv2d(channels // 4, channels, 1), nn.Sigmoid()),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight: torch.Tensor = self.gate(x)  # [N, C, 1, 1]
        return x * weight


class OwnNetwork(nn.Module):
    """Three convolutions with SiLU and gates: images [N, in_channels, H, W] -> logits [N, num_classes].

    The command line passes the data's num_classes and in_channels to a factory that has these parameters.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for inputs, channels, stride in ((in_channels, 16, 1), (16, 32, 2), (32, 64, 2)):
            blocks += [nn.Conv2d(inputs, channels, 3, stride, padding=1, bias=False), nn.BatchNorm2d(channels)]
            blocks += [nn.SiLU(), Gate(channels)]
        self.features = nn.Sequential(*blocks)
        self.head = nn.Linear(64, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.features(x).mean((2, 3)))
        return logits
