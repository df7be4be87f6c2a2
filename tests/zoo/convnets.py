"""Convolutional networks that classify."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .blocks import Basic, SqueezeExcite, conv_norm
from .registry import images, network


def classifier(*features: nn.Module, channels: int, classes: int = 10) -> nn.Sequential:
    return nn.Sequential(*features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


class ScaledConv2d(nn.Conv2d):
    """NFNet's: the weight is standardized in every forward pass, with a gain of its own."""

    def __init__(self, inp: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inp, out, kernel, stride, kernel // 2, groups=groups)
        self.gain = nn.Parameter(torch.ones(out, 1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = self.weight.mean(dim=(1, 2, 3), keepdim=True)
        var = self.weight.var(dim=(1, 2, 3), keepdim=True, unbiased=False)
        fan = self.weight[0].numel()
        weight = (self.weight - mean) * torch.rsqrt(var * fan + 1e-4) * self.gain
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class NfBlock(nn.Module):
    def __init__(self, channels: int, alpha: float = 0.2, beta: float = 0.9) -> None:
        super().__init__()
        self.alpha, self.beta = alpha, beta
        self.conv1, self.conv2 = ScaledConv2d(channels, channels, 1), ScaledConv2d(channels, channels, 3, groups=4)
        self.conv3, self.se = ScaledConv2d(channels, channels, 1), SqueezeExcite(channels, 8)
        self.skip_gain = nn.Parameter(torch.tensor(0.7))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.gelu(x) * 1.7015 * self.beta
        y = self.conv2(F.gelu(self.conv1(y)) * 1.7015)
        y = 2 * self.se(self.conv3(F.gelu(y) * 1.7015))
        return y * self.skip_gain * self.alpha + x


@network(images())
def nfnet() -> nn.Module:
    return classifier(ScaledConv2d(3, 16, 3, 2), NfBlock(16), nn.AvgPool2d(2), NfBlock(16), nn.GELU(), channels=16)


class RegBlock(nn.Module):
    """Of RegNetY: grouped convolution and squeeze-and-excitation."""

    def __init__(self, inp: int, out: int, stride: int, group: int = 8) -> None:
        super().__init__()
        self.a, self.b = conv_norm(inp, out, 1), conv_norm(out, out, 3, stride, groups=out // group)
        self.se, self.c = SqueezeExcite(out, inp // 4), conv_norm(out, out, 1, act=None)
        self.proj = conv_norm(inp, out, 1, stride, act=None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.proj(x) + self.c(self.se(self.b(self.a(x)))))


@network(images())
def regnet() -> nn.Module:
    return classifier(conv_norm(3, 16, 3, 2), RegBlock(16, 24, 2), RegBlock(24, 48, 2), channels=48)


class Exchange(nn.Module):
    """HRNet: every resolution reads all others."""

    def __init__(self, width: int) -> None:
        super().__init__()
        w = width
        self.b1, self.b2 = Basic(w, w), Basic(2 * w, 2 * w)
        self.up, self.down = conv_norm(2 * w, w, 1, act=None), conv_norm(w, 2 * w, 3, 2, act=None)

    def forward(self, x: list[torch.Tensor]) -> list[torch.Tensor]:
        high, low = self.b1(x[0]), self.b2(x[1])
        up = F.interpolate(self.up(low), scale_factor=2, mode="nearest")
        return [F.relu(high + up), F.relu(self.down(high) + low)]


class HRNet(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        w = width
        self.stem, self.t1, self.t2 = conv_norm(3, w, 3, 2), conv_norm(w, w), conv_norm(w, 2 * w, 3, 2)
        self.e1, self.e2 = Exchange(w), Exchange(w)
        self.last, self.out = conv_norm(3 * w, 16, 1), nn.Conv2d(16, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        y = self.e2(self.e1([self.t1(x), self.t2(x)]))
        high, wide = y[0].size(2), y[0].size(3)
        low = F.interpolate(y[1], size=(high, wide), mode="bilinear", align_corners=True)
        return self.out(self.last(torch.cat([y[0], low], 1)))


@network(images())
def hrnet() -> nn.Module:
    return HRNet()


class SelectiveKernel(nn.Module):
    """Two kernels, weighed against each other by a softmax over the branches."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [conv_norm(channels, channels, groups=4), conv_norm(channels, channels, groups=4, dilation=2)]
        )
        self.squeeze, self.fcs = (
            nn.Sequential(nn.Conv2d(channels, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
            nn.ModuleList(nn.Conv2d(8, channels, 1) for _ in range(2)),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = torch.stack([branch(x) for branch in self.branches], dim=1)
        z = self.squeeze(features.sum(dim=1).mean((2, 3), keepdim=True))
        weights = torch.softmax(torch.stack([fc(z) for fc in self.fcs], dim=1), dim=1)
        return (features * weights).sum(dim=1)


@network(images())
def sknet() -> nn.Module:
    return classifier(
        conv_norm(3, 16, 3, 2), SelectiveKernel(16), conv_norm(16, 32, 1), SelectiveKernel(32), channels=32
    )


class Cbam(nn.Module):
    """Attention to channels by mean and maximum over pixels, then to pixels by mean and maximum over channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Flatten(), nn.Linear(channels, 4), nn.ReLU(), nn.Linear(4, channels))
        self.spatial = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = self.mlp(F.avg_pool2d(x, (x.size(2), x.size(3)), stride=(x.size(2), x.size(3))))
        most = self.mlp(F.max_pool2d(x, (x.size(2), x.size(3)), stride=(x.size(2), x.size(3))))
        x = x * torch.sigmoid(mean + most).unsqueeze(2).unsqueeze(3).expand_as(x)
        pooled = torch.cat((torch.max(x, 1)[0].unsqueeze(1), torch.mean(x, 1).unsqueeze(1)), dim=1)
        return x * torch.sigmoid(self.norm(self.spatial(pooled)))


@network(images())
def cbam() -> nn.Module:
    return classifier(conv_norm(3, 16, 3, 2), Cbam(16), Basic(16, 32, 2), Cbam(32), channels=32)


class RepVgg(nn.Module):
    """As it is trained: 3×3, 1×1 and identity, each with a batch norm, side by side."""

    def __init__(self, inp: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.dense, self.point = conv_norm(inp, out, 3, stride, act=None), conv_norm(inp, out, 1, stride, act=None)
        self.identity = nn.BatchNorm2d(inp) if inp == out and stride == 1 else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        same = 0 if self.identity is None else self.identity(x)
        return F.relu(self.dense(x) + self.point(x) + same)


@network(images())
def repvgg() -> nn.Module:
    return classifier(RepVgg(3, 16, 2), RepVgg(16, 16), RepVgg(16, 32, 2), RepVgg(32, 32), channels=32)
