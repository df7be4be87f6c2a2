"""Convolutional networks for small devices."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .blocks import LayerNorm2d, SqueezeExcite, conv_norm
from .convnets import classifier
from .registry import images, network, vectors


class Ghost(nn.Module):
    """Half of the channels are convolved, the others are made of these by a depthwise convolution."""

    def __init__(self, inp: int, out: int, relu: bool = True) -> None:
        super().__init__()
        half, act = out // 2, nn.ReLU if relu else None
        self.out = out
        self.primary, self.cheap = conv_norm(inp, half, 1, act=act), conv_norm(half, half, 3, groups=half, act=act)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x1 = self.primary(x)
        return torch.cat([x1, self.cheap(x1)], dim=1)[:, : self.out, :, :]


class GhostBlock(nn.Module):
    def __init__(self, inp: int, mid: int, out: int, stride: int) -> None:
        super().__init__()
        self.ghost1, self.ghost2 = Ghost(inp, mid), Ghost(mid, out, relu=False)
        self.depth = conv_norm(mid, mid, 3, stride, groups=mid, act=None) if stride > 1 else nn.Identity()
        self.se = SqueezeExcite(mid, mid // 4, gate=nn.Hardsigmoid)
        self.shortcut: nn.Module = nn.Identity()
        if inp != out or stride > 1:
            self.shortcut = nn.Sequential(
                conv_norm(inp, inp, 3, stride, groups=inp, act=None), conv_norm(inp, out, 1, act=None)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.ghost2(self.se(self.depth(self.ghost1(x)))) + self.shortcut(x)


@network(images())
def ghostnet() -> nn.Module:
    return classifier(
        conv_norm(3, 8, 3, 2), GhostBlock(8, 16, 16, 1), GhostBlock(16, 32, 24, 2), conv_norm(24, 48, 1), channels=48
    )


class Eca(nn.Module):
    """Channels weighed through a convolution along the channels."""

    def __init__(self, kernel: int = 3) -> None:
        super().__init__()
        self.pool, self.conv = nn.AdaptiveAvgPool2d(1), nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(self.pool(x).squeeze(-1).transpose(-1, -2)).transpose(-1, -2).unsqueeze(-1)
        return x * torch.sigmoid(y).expand_as(x)


class EcaBlock(nn.Module):
    def __init__(self, inp: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_norm(inp, out, 3, stride), conv_norm(out, out, 3, act=None), Eca())
        self.down = conv_norm(inp, out, 1, stride, act=None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.body(x) + self.down(x))


@network(images())
def eca() -> nn.Module:
    return classifier(conv_norm(3, 16, 3, 2), EcaBlock(16, 16), EcaBlock(16, 32, 2), channels=32)


class MobileOneBlock(nn.Module):
    """As it is trained: several branches of the same kind, a 1×1 branch and a batch norm, summed."""

    def __init__(self, inp: int, out: int, kernel: int, stride: int = 1, groups: int = 1, branches: int = 3) -> None:
        super().__init__()
        self.skip = nn.BatchNorm2d(inp) if inp == out and stride == 1 else None
        self.convs = nn.ModuleList(
            conv_norm(inp, out, kernel, stride, groups=groups, act=None) for _ in range(branches)
        )
        self.scale = conv_norm(inp, out, 1, stride, groups=groups, act=None) if kernel > 1 else None
        self.activation = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = 0 if self.skip is None else self.skip(x)
        out = out + (0 if self.scale is None else self.scale(x))
        for conv in self.convs:
            out = out + conv(x)
        return self.activation(out)


@network(images())
def mobileone() -> nn.Module:
    return classifier(
        MobileOneBlock(3, 16, 3, 2, branches=1),
        MobileOneBlock(16, 16, 3, 1, groups=16), MobileOneBlock(16, 24, 1),
        MobileOneBlock(24, 24, 3, 2, groups=24), MobileOneBlock(24, 32, 1),
        channels=32,
    )  # fmt: skip


def shuffled(x: torch.Tensor, groups: int) -> torch.Tensor:
    batch, channels, height, width = x.size()
    x = x.view(batch, groups, channels // groups, height, width)
    return torch.transpose(x, 1, 2).contiguous().view(batch, -1, height, width)


class ShuffleUnit(nn.Module):
    """Version 2: half of the channels pass, or both halves are strided; then channels are shuffled."""

    def __init__(self, inp: int, out: int, stride: int) -> None:
        super().__init__()
        half = out // 2
        self.stride = stride
        if stride > 1:
            self.left = nn.Sequential(conv_norm(inp, inp, 3, 2, groups=inp, act=None), conv_norm(inp, half, 1))
        self.right = nn.Sequential(
            conv_norm(inp if stride > 1 else half, half, 1),
            conv_norm(half, half, 3, stride, groups=half, act=None),
            conv_norm(half, half, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.stride == 1:
            x1, x2 = x.chunk(2, dim=1)
            out = torch.cat((x1, self.right(x2)), dim=1)
        else:
            out = torch.cat((self.left(x), self.right(x)), dim=1)
        return shuffled(out, 2)


@network(images())
def shufflenet() -> nn.Module:
    return classifier(
        conv_norm(3, 8, 3, 2), ShuffleUnit(8, 16, 2), ShuffleUnit(16, 16, 1), ShuffleUnit(16, 16, 1),
        conv_norm(16, 32, 1), channels=32,
    )  # fmt: skip


class ConvNextBlock(nn.Module):
    """A depthwise 7×7, a layer norm over channels, two linear layers on the last axis, and a scale of the layer."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv, self.norm = nn.Conv2d(dim, dim, 7, padding=3, groups=dim), nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1, self.act, self.pwconv2 = nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim)
        self.gamma = nn.Parameter(0.4 * torch.ones(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.gamma * self.pwconv2(self.act(self.pwconv1(y)))
        return x + y.permute(0, 3, 1, 2)


@network(images())
def convnext() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 4, 4), LayerNorm2d(16), ConvNextBlock(16), ConvNextBlock(16),
        LayerNorm2d(16), nn.Conv2d(16, 32, 2, 2), ConvNextBlock(32),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(32), nn.Linear(32, 10),
    )  # fmt: skip


class VideoNet(nn.Module):
    """R(2+1)D: convolutions over space, then over time, with residuals."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        w = width
        self.stem = nn.Sequential(
            nn.Conv3d(3, w, (1, 5, 5), (1, 2, 2), (0, 2, 2), bias=False), nn.BatchNorm3d(w), nn.ReLU(),
            nn.Conv3d(w, w, (3, 1, 1), padding=(1, 0, 0), bias=False), nn.BatchNorm3d(w), nn.ReLU(),
        )  # fmt: skip
        self.body = nn.Sequential(
            nn.Conv3d(w, 2 * w, 3, (2, 2, 2), 1, bias=False), nn.BatchNorm3d(2 * w), nn.ReLU(),
            nn.Conv3d(2 * w, 2 * w, 3, 1, 1, bias=False), nn.BatchNorm3d(2 * w),
        )  # fmt: skip
        self.down = nn.Sequential(nn.Conv3d(w, 2 * w, 1, 2, bias=False), nn.BatchNorm3d(2 * w))
        self.pool, self.fc = nn.AdaptiveAvgPool3d((1, 1, 1)), nn.Linear(2 * w, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool3d(self.stem(x), (1, 2, 2))
        x = F.relu(self.body(x) + self.down(x))
        return self.fc(self.pool(x).flatten(1))


@network(images(3, (4, 16, 16)), batch=4)
def video() -> nn.Module:
    return VideoNet()


class Generator(nn.Module):
    """DCGAN: an image from a vector, through transposed convolutions."""

    def __init__(self, latent: int = 16, width: int = 8) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.ConvTranspose2d(latent, 4 * width, 4, 1, 0, bias=False)]
        for inp, out in ((4 * width, 2 * width), (2 * width, width)):
            layers += [nn.BatchNorm2d(inp), nn.ReLU(True), nn.ConvTranspose2d(inp, out, 4, 2, 1, bias=False)]
        layers += [nn.BatchNorm2d(width), nn.LeakyReLU(0.2), nn.ConvTranspose2d(width, 3, 4, 2, 1), nn.Tanh()]
        self.main = nn.Sequential(*layers)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.main(z[:, :, None, None])


@network(vectors(16))
def dcgan() -> nn.Module:
    return Generator()
