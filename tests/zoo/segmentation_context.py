"""Networks that give a class to every pixel, and read context from far away."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .blocks import Basic, conv_norm
from .registry import images, network


class Aspp(nn.Module):
    """DeepLab: dilated convolutions and the mean of the image, side by side."""

    def __init__(self, inp: int, out: int, rates: tuple[int, ...]) -> None:
        super().__init__()
        self.convs = nn.ModuleList([conv_norm(inp, out, 1), *(conv_norm(inp, out, 3, dilation=rate) for rate in rates)])
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv_norm(inp, out, 1))
        self.project = nn.Sequential(conv_norm((len(rates) + 2) * out, out, 1), nn.Dropout(0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = x.shape[-2:]
        found = [conv(x) for conv in self.convs]
        found.append(F.interpolate(self.pool(x), size=size, mode="bilinear", align_corners=False))
        return self.project(torch.cat(found, dim=1))


class DeepLab(nn.Module):
    """Version 3+: context is brought up and joined with finer features."""

    def __init__(self, width: int = 8, classes: int = 4) -> None:
        super().__init__()
        w = width
        self.stem, self.low, self.high = conv_norm(3, w, 3, 2), Basic(w, w), Basic(w, 2 * w, 2)
        self.aspp, self.reduce = Aspp(2 * w, 16, (2, 4)), conv_norm(w, 8, 1)
        self.classify = nn.Sequential(conv_norm(24, 16), nn.Conv2d(16, classes, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        low = self.low(self.stem(x))
        context = self.aspp(self.high(low))
        context = F.interpolate(context, size=low.shape[-2:], mode="bilinear", align_corners=False)
        y = self.classify(torch.cat((self.reduce(low), context), dim=1))
        return F.interpolate(y, size=x.shape[-2:], mode="bilinear", align_corners=False)


@network(images(), batch=4)
def deeplab() -> nn.Module:
    return DeepLab()


class Refinement(nn.Module):
    """BiSeNet: features weighed by what they hold on average."""

    def __init__(self, inp: int, out: int) -> None:
        super().__init__()
        self.conv, self.attention = conv_norm(inp, out), nn.Conv2d(out, out, 1, bias=False)
        self.norm, self.gate = nn.BatchNorm2d(out), nn.Sigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        weights = F.avg_pool2d(y, y.size()[2:])
        return torch.mul(y, self.gate(self.norm(self.attention(weights))))


class Fusion(nn.Module):
    """BiSeNet: two paths joined, then weighed, and what was weighed is added again."""

    def __init__(self, inp: int, out: int) -> None:
        super().__init__()
        self.conv = conv_norm(inp, out, 1)
        self.conv1, self.conv2 = nn.Conv2d(out, out // 4, 1, bias=False), nn.Conv2d(out // 4, out, 1, bias=False)

    def forward(self, spatial: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        y = self.conv(torch.cat([spatial, context], dim=1))
        weights = torch.sigmoid(self.conv2(F.relu(self.conv1(F.avg_pool2d(y, y.size()[2:])))))
        return y * weights + y


class BiSeNet(nn.Module):
    def __init__(self, width: int = 8, classes: int = 4) -> None:
        super().__init__()
        w = width
        self.spatial = nn.Sequential(conv_norm(3, w, 7, 2), conv_norm(w, w, 3, 2), conv_norm(w, 16, 1))
        self.stem, self.c8, self.c16 = conv_norm(3, w, 3, 2), Basic(w, 2 * w, 2), Basic(2 * w, 4 * w, 2)
        self.arm8, self.arm16 = Refinement(2 * w, 16), Refinement(4 * w, 16)
        self.mean, self.head16, self.head8 = conv_norm(4 * w, 16, 1), conv_norm(16, 16), conv_norm(16, 16)
        self.fusion, self.out = Fusion(32, 32), nn.Sequential(conv_norm(32, 16), nn.Conv2d(16, classes, 1, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spatial = self.spatial(x)
        c8 = self.c8(self.stem(x))
        c16 = self.c16(c8)
        mean = F.interpolate(self.mean(F.avg_pool2d(c16, c16.size()[2:])), c16.size()[2:], mode="nearest")
        up16 = self.head16(F.interpolate(self.arm16(c16) + mean, c8.size()[2:], mode="nearest"))
        up8 = self.head8(self.arm8(c8) + up16)
        y = self.out(self.fusion(spatial, up8))
        return F.interpolate(y, x.size()[2:], mode="bilinear", align_corners=True)


@network(images(), batch=4)
def bisenet() -> nn.Module:
    return BiSeNet()


class Bottleneck(nn.Module):
    """ENet: down to a quarter of the channels, a 5×1 and a 1×5 convolution, and up; PReLU everywhere."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        c = channels // 4
        self.body = nn.Sequential(
            nn.Conv2d(channels, c, 1, bias=False), nn.BatchNorm2d(c), nn.PReLU(),
            nn.Conv2d(c, c, (5, 1), padding=(2, 0), bias=False), nn.Conv2d(c, c, (1, 5), padding=(0, 2), bias=False),
            nn.BatchNorm2d(c), nn.PReLU(),
            nn.Conv2d(c, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.Dropout2d(0.1),
        )  # fmt: skip
        self.act = nn.PReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.body(x) + x)


class ENet(nn.Module):
    """The first block joins a strided convolution with a maximum pool; the last one is a transposed convolution."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.first, self.pool = nn.Conv2d(3, 13, 3, 2, 1, bias=False), nn.MaxPool2d(2, 2)
        self.norm, self.act = nn.BatchNorm2d(16), nn.PReLU(16)
        self.down, self.body = conv_norm(16, 32, 2, 2, act=nn.PReLU), nn.Sequential(Bottleneck(32), Bottleneck(32))
        self.up = nn.Sequential(nn.ConvTranspose2d(32, 16, 3, 2, 1, 1, bias=False), nn.BatchNorm2d(16), nn.PReLU())
        self.out = nn.ConvTranspose2d(16, classes, 3, 2, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.norm(torch.cat((self.first(x), self.pool(x)), 1)))
        return self.out(self.up(self.body(self.down(x))))


@network(images(), batch=4)
def enet() -> nn.Module:
    return ENet()
