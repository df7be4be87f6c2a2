"""Convolutional networks whose blocks have branches or many small parts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .blocks import SqueezeExcite, conv_norm
from .convnets import classifier
from .registry import images, network


class Inverted(nn.Module):
    """EfficientNet's block."""

    def __init__(self, inp: int, out: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        mid, silu = inp * expand, nn.SiLU
        self.add = inp == out and stride == 1
        self.layers = nn.Sequential(
            conv_norm(inp, mid, 1, act=silu),
            conv_norm(mid, mid, kernel, stride, groups=mid, act=silu),
            SqueezeExcite(mid, inp // 4, act=silu),
            conv_norm(mid, out, 1, act=None),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x) if self.add else self.layers(x)


@network(images())
def efficientnet() -> nn.Module:
    blocks = (Inverted(8, 16, 3, 2, 2), Inverted(16, 16, 5, 1, 3), Inverted(16, 24, 3, 2, 3))
    return classifier(conv_norm(3, 8, 3, 2, act=nn.SiLU), *blocks, conv_norm(24, 48, 1, act=nn.SiLU), channels=48)


class DenseLayer(nn.Module):
    def __init__(self, inp: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(inp), nn.Conv2d(inp, 2 * growth, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(2 * growth), nn.Conv2d(2 * growth, growth, 3, padding=1, bias=False)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        x = self.conv1(F.relu(self.norm1(torch.cat(features, 1))))
        return self.conv2(F.relu(self.norm2(x)))


class DenseBlock(nn.Module):
    def __init__(self, inp: int, growth: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DenseLayer(inp + i * growth, growth) for i in range(layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = [x]
        for layer in self.layers:
            features.append(layer(features))
        return torch.cat(features, 1)


@network(images())
def densenet() -> nn.Module:
    return classifier(
        conv_norm(3, 16, 3, 2),
        DenseBlock(16, 8, 3),
        nn.Sequential(nn.BatchNorm2d(40), nn.ReLU(), nn.Conv2d(40, 20, 1, bias=False), nn.AvgPool2d(2, 2)),
        DenseBlock(20, 8, 3),
        nn.BatchNorm2d(44),
        nn.ReLU(),
        channels=44,
    )


class Inception(nn.Module):
    """Factorized and pooled branches in one Concat."""

    def __init__(self, inp: int) -> None:
        super().__init__()
        self.b1 = conv_norm(inp, 8, 1)
        self.b5 = nn.Sequential(conv_norm(inp, 6, 1), conv_norm(6, 8, 5))
        self.b7 = nn.Sequential(
            conv_norm(inp, 6, 1),
            nn.Conv2d(6, 6, (1, 7), padding=(0, 3), bias=False),
            nn.Conv2d(6, 8, (7, 1), padding=(3, 0), bias=False),
            nn.BatchNorm2d(8, eps=0.001),
            nn.ReLU(),
        )
        self.pool = conv_norm(inp, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = self.pool(F.avg_pool2d(x, kernel_size=3, stride=1, padding=1))
        return torch.cat([self.b1(x), self.b5(x), self.b7(x), pooled], 1)


class Reduction(nn.Module):
    def __init__(self, inp: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(inp, out, 3, 2, bias=False), nn.BatchNorm2d(out), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.conv(x), F.max_pool2d(x, kernel_size=3, stride=2)], 1)


class InceptionNet(nn.Module):
    """With an auxiliary classifier, which only training uses, and a transformed input."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mixed1, self.reduce, self.mixed2 = (
            conv_norm(3, 16, 3, 2),
            Inception(16),
            Reduction(32, 16),
            Inception(48),
        )
        self.aux = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 10))
        self.fc = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        first = torch.unsqueeze(x[:, 0], 1) * 0.458 - 0.03
        second = torch.unsqueeze(x[:, 1], 1) * 0.448 - 0.088
        third = torch.unsqueeze(x[:, 2], 1) * 0.45 - 0.188
        x = self.reduce(self.mixed1(self.stem(torch.cat((first, second, third), 1))))
        aux = self.aux(x) if self.training else None
        x = self.fc(torch.flatten(F.dropout(F.adaptive_avg_pool2d(self.mixed2(x), (1, 1)), training=self.training), 1))
        return (x, aux) if self.training and aux is not None else x


@network(images())
def inception() -> nn.Module:
    return InceptionNet()


class SplitAttention(nn.Module):
    """ResNeSt: groups of channels weighed against each other."""

    def __init__(self, channels: int, radix: int = 2, groups: int = 2) -> None:
        super().__init__()
        self.radix, self.groups = radix, groups
        self.conv, self.norm = (
            nn.Conv2d(channels, channels * radix, 3, padding=1, groups=groups * radix, bias=False),
            nn.BatchNorm2d(channels * radix),
        )
        self.fc1, self.bn1, self.fc2 = (
            nn.Conv2d(channels, 8, 1, groups=groups),
            nn.BatchNorm2d(8),
            nn.Conv2d(8, channels * radix, 1, groups=groups),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.norm(self.conv(x)))
        batch, rchannel = x.shape[:2]
        parts = torch.split(x, rchannel // self.radix, dim=1)
        gap = F.adaptive_avg_pool2d(sum(parts), 1)
        attention = self.fc2(F.relu(self.bn1(self.fc1(gap))))
        attention = attention.view(batch, self.groups, self.radix, -1).transpose(1, 2)
        attention = F.softmax(attention, dim=1).reshape(batch, -1, 1, 1)
        weights = torch.split(attention, rchannel // self.radix, dim=1)
        return sum([weight * part for weight, part in zip(weights, parts, strict=True)]).contiguous()


class ResNeStBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.a, self.split, self.c = (
            conv_norm(channels, channels, 1),
            SplitAttention(channels),
            conv_norm(channels, channels, 1, act=None),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.c(self.split(self.a(x))) + x)


@network(images())
def resnest() -> nn.Module:
    return classifier(conv_norm(3, 16, 3, 2), ResNeStBlock(16), nn.AvgPool2d(3, 2, 1), ResNeStBlock(16), channels=16)
