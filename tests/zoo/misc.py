"""Networks of other kinds: tables, point clouds, super-resolution, diffusion, shared weights."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from .blocks import conv_norm
from .registry import images, network, uniform, vectors


class Tied(nn.Module):
    """An autoencoder whose decoder uses the encoder's weights, transposed."""

    def __init__(self, dim: int = 24, code: int = 12) -> None:
        super().__init__()
        self.encoder, self.bias = nn.Linear(dim, code), nn.Parameter(torch.zeros(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(torch.sigmoid(self.encoder(x)), self.encoder.weight.t(), self.bias)


@network(vectors(24), batch=32)
def tied() -> nn.Module:
    return Tied()


class Unrolled(nn.Module):
    """One block applied five times, as in iterative reconstruction: each step corrects the last."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.lift, self.step = (
            nn.Conv2d(1, channels, 3, padding=1),
            nn.Sequential(conv_norm(channels, channels), nn.Conv2d(channels, channels, 3, padding=1)),
        )
        self.shrink, self.out = nn.Parameter(torch.tensor(0.3)), nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.lift(x)
        for _ in range(5):
            z = z - self.shrink * self.step(z)
        return x + self.out(z)


@network(images(1, 16))
def unrolled() -> nn.Module:
    return Unrolled()


class Span(nn.Module):
    """Super-resolution with attention that has no parameters: (σ(y) - ½) weighs the sum of input and features."""

    def __init__(self, channels: int = 12, scale: int = 2) -> None:
        super().__init__()
        c = channels
        self.first = nn.Conv2d(3, c, 3, padding=1)
        self.blocks = nn.ModuleList(nn.ModuleList(nn.Conv2d(c, c, 3, padding=1) for _ in range(3)) for _ in range(2))
        self.cat, self.last = nn.Conv2d(3 * c, c, 1), nn.Conv2d(c, 3 * scale**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = [self.first((x - 0.45) * 1.0)]
        for a, b, c in self.blocks:
            y = c(F.silu(b(F.silu(a(kept[-1])))))
            kept.append((y + kept[-1]) * (torch.sigmoid(y) - 0.5))
        return self.shuffle(self.last(self.cat(torch.cat(kept, 1))))


@network(images(size=16))
def span() -> nn.Module:
    return Span()


class Edsr(nn.Module):
    """Super-resolution: scaled residual blocks without norms around a long skip; fixed layers shift the means."""

    def __init__(self, channels: int = 12) -> None:
        super().__init__()
        c = channels
        self.sub, self.add = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.head = nn.Conv2d(3, c, 3, padding=1)
        self.body = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, c, 3, padding=1), nn.ReLU(True), nn.Conv2d(c, c, 3, padding=1)) for _ in range(3)
        )
        self.tail = nn.Sequential(nn.Conv2d(c, 9 * c, 3, padding=1), nn.PixelShuffle(3), nn.Conv2d(c, 3, 3, padding=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.head(self.sub(x))
        y = x
        for block in self.body:
            y = y + block(y).mul(0.1)
        return self.add(self.tail(x + y)).clamp(-2, 2)


@network(images(size=12))
def edsr() -> nn.Module:
    return Edsr()


class DiffusionBlock(nn.Module):
    """Group norms and SiLU; the embedded time is added between the convolutions."""

    def __init__(self, inp: int, out: int, time: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(4, inp), nn.Conv2d(inp, out, 3, padding=1)
        self.time = nn.Linear(time, 2 * out)
        self.norm2, self.conv2 = nn.GroupNorm(4, out), nn.Conv2d(out, out, 3, padding=1)
        self.skip = nn.Conv2d(inp, out, 1) if inp != out else nn.Identity()

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.time(F.silu(t))[:, :, None, None].chunk(2, dim=1)
        h = self.norm2(h) * (1 + scale) + shift
        return self.skip(x) + self.conv2(F.silu(h))


class Diffusion(nn.Module):
    """Predicts the noise in an image at a time; a small U-Net."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        w = width
        self.embed = nn.Sequential(nn.Linear(16, 32), nn.SiLU(), nn.Linear(32, 32))
        self.start, self.block1, self.down = (
            nn.Conv2d(3, w, 3, padding=1),
            DiffusionBlock(w, w, 32),
            nn.Conv2d(w, 2 * w, 3, 2, 1),
        )
        self.middle, self.block2 = DiffusionBlock(2 * w, 2 * w, 32), DiffusionBlock(3 * w, w, 32)
        self.norm, self.out = nn.GroupNorm(4, w), nn.Conv2d(w, 3, 3, padding=1)

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        frequencies = torch.exp(-math.log(10000) * torch.arange(8, device=time.device) / 8)
        angles = 1000 * time * frequencies[None]
        t = self.embed(torch.cat([torch.sin(angles), torch.cos(angles)], dim=-1))
        first = self.block1(self.start(x), t)
        h = self.middle(self.down(first), t)
        h = self.block2(torch.cat([F.interpolate(h, scale_factor=2.0, mode="nearest"), first], dim=1), t)
        return self.out(F.silu(self.norm(h)))


@network(images(size=16), uniform(1))
def diffusion() -> nn.Module:
    return Diffusion()


class Tabular(nn.Module):
    """Two hundred columns would be as good as ten: batch norm first, residual blocks, one number per row."""

    def __init__(self, columns: int = 10, width: int = 32) -> None:
        super().__init__()
        self.norm, self.first = nn.BatchNorm1d(columns), nn.Linear(columns, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm1d(width),
                nn.Linear(width, 2 * width),
                nn.ReLU(),
                nn.Dropout(0.1),
                nn.Linear(2 * width, width),
            )
            for _ in range(2)
        )
        self.head = nn.Sequential(nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(self.norm(x))
        for block in self.blocks:
            x = x + block(x)
        return self.head(x).squeeze(-1)


@network(vectors(10), batch=64)
def tabular() -> nn.Module:
    return Tabular()


class PointNet(nn.Module):
    """Points through shared layers, a learned transform of the coordinates, and a maximum over all points."""

    def __init__(self) -> None:
        super().__init__()
        self.t1, self.t2, self.t3 = nn.Conv1d(3, 16, 1), nn.Linear(16, 16), nn.Linear(16, 9)
        self.tn1, self.tn2 = nn.BatchNorm1d(16), nn.BatchNorm1d(16)
        self.conv1, self.conv2 = nn.Conv1d(3, 16, 1), nn.Conv1d(16, 32, 1)
        self.bn1, self.bn2 = nn.BatchNorm1d(16), nn.BatchNorm1d(32)
        self.fc1, self.bn3, self.fc2 = nn.Linear(32, 16), nn.BatchNorm1d(16), nn.Linear(16, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch = x.size(0)
        t = torch.max(F.relu(self.tn1(self.t1(x))), 2, keepdim=True)[0].view(-1, 16)
        t = self.t3(F.relu(self.tn2(self.t2(t)))) + torch.eye(3).flatten().view(1, 9).repeat(batch, 1)
        x = torch.bmm(x.transpose(2, 1), t.view(-1, 3, 3)).transpose(2, 1)
        x = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        x = torch.max(x, 2, keepdim=True)[0].view(-1, 32)
        return F.log_softmax(self.fc2(F.relu(self.bn3(self.fc1(x)))), dim=1)


@network(vectors(3, 64))
def pointnet() -> nn.Module:
    return PointNet()
