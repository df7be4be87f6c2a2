"""More networks for images in the manner of transformers: pyramids of tokens, and mixers without attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .blocks import Attention, Mlp, conv_norm
from .registry import images, network


class Reduced(nn.Module):
    """PVT: keys and values from fewer tokens; einsum for the products."""

    def __init__(self, dim: int, heads: int, ratio: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.q, self.k, self.v, self.proj = (nn.Linear(dim, dim) for _ in range(4))
        self.reduce, self.norm = nn.Conv2d(dim, dim, ratio, ratio), nn.LayerNorm(dim)

    def forward(self, x: torch.Tensor, size: int) -> torch.Tensor:
        batch, length, dim = x.shape
        small = self.reduce(x.transpose(1, 2).reshape(batch, dim, size, size)).flatten(2).transpose(1, 2)
        small = self.norm(small)
        q = self.q(x).view(batch, length, self.heads, -1)
        k, v = (layer(small).view(batch, small.shape[1], self.heads, -1) for layer in (self.k, self.v))
        weights = torch.einsum("bihd,bjhd->bhij", q, k) * self.scale
        y = torch.einsum("bhij,bjhd->bihd", weights.softmax(-1), v)
        return self.proj(y.reshape(batch, length, dim))


class PvtStage(nn.Module):
    def __init__(self, inp: int, dim: int, patch: int, size: int, ratio: int) -> None:
        super().__init__()
        self.size = size
        self.embed, self.norm = nn.Conv2d(inp, dim, patch, patch), nn.LayerNorm(dim)
        self.position = nn.Parameter(0.3 * torch.randn(1, size * size, dim))
        self.norm1, self.attn, self.norm2, self.mlp = (
            nn.LayerNorm(dim),
            Reduced(dim, 2, ratio),
            nn.LayerNorm(dim),
            Mlp(dim, 2 * dim),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.embed(x).flatten(2).transpose(1, 2)) + self.position
        x = x + self.attn(self.norm1(x), self.size)
        x = x + self.mlp(self.norm2(x))
        return x.transpose(1, 2).unflatten(2, (self.size, self.size))


@network(images(), attention=True)
def pvt() -> nn.Module:
    return nn.Sequential(
        PvtStage(3, 16, 4, 8, 4),
        PvtStage(16, 32, 2, 4, 2),
        nn.AdaptiveAvgPool2d((1, 1)),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


class Meta4d(nn.Module):
    """EfficientFormer: pooling as the mixer, then two 1×1 convolutions with batch norms, both with layer scales."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(3, 1, 1, count_include_pad=False)
        self.mlp = nn.Sequential(conv_norm(dim, 2 * dim, 1, act=nn.GELU), conv_norm(2 * dim, dim, 1, act=None))
        self.scale1, self.scale2 = (nn.Parameter(0.5 * torch.ones(dim, 1, 1)) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.scale1 * (self.pool(x) - x)
        return x + self.scale2 * self.mlp(x)


class Meta3d(nn.Module):
    """EfficientFormer: attention with a learned bias for every pair of places, kept as a buffer's index."""

    def __init__(self, dim: int, tokens: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn, self.mlp = Attention(dim, 2), Mlp(dim, 2 * dim)
        self.bias = nn.Parameter(torch.randn(2, tokens))
        self.register_buffer("index", (torch.arange(tokens)[:, None] - torch.arange(tokens)[None]).abs())
        self.scale1, self.scale2 = (nn.Parameter(0.5 * torch.ones(dim)) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm1(x)
        batch, length, dim = y.shape
        q, k, v = self.attn.qkv(y).reshape(batch, length, 2, -1).permute(0, 2, 1, 3).split([dim // 2] * 3, dim=3)
        weights = (q @ k.transpose(-2, -1)) * self.attn.scale + self.bias[:, self.index]
        y = (weights.softmax(dim=-1) @ v).transpose(1, 2).reshape(batch, length, dim)
        x = x + self.scale1 * self.attn.proj(y)
        return x + self.scale2 * self.mlp(self.norm2(x))


class EfficientFormer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_norm(3, 8, 3, 2), conv_norm(8, 16, 3, 2))
        self.stage1, self.down, self.stage2 = Meta4d(16), conv_norm(16, 32, 3, 2, act=None), Meta3d(32, 16)
        self.norm, self.head, self.dist = nn.LayerNorm(32), nn.Linear(32, 10), nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.down(self.stage1(self.stem(x))).flatten(2).transpose(1, 2)
        x = self.norm(self.stage2(x)).mean(-2)
        return self.head(x), self.dist(x)


@network(images(), attention=True)
def efficientformer() -> nn.Module:
    return EfficientFormer()


class PoolBlock(nn.Module):
    """Average pooling less the input in the place of attention; group norms of one group; scales of layers."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(1, dim), nn.GroupNorm(1, dim)
        self.pool = nn.AvgPool2d(3, 1, 1, count_include_pad=False)
        self.fc1, self.fc2 = nn.Conv2d(dim, 2 * dim, 1), nn.Conv2d(2 * dim, dim, 1)
        self.scale1, self.scale2 = (nn.Parameter(0.5 * torch.ones(dim)) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm1(x)
        x = x + self.scale1.unsqueeze(-1).unsqueeze(-1) * (self.pool(y) - y)
        y = self.fc2(F.gelu(self.fc1(self.norm2(x))))
        return x + self.scale2.unsqueeze(-1).unsqueeze(-1) * y


@network(images())
def poolformer() -> nn.Module:
    class PoolFormer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.stage1 = nn.Conv2d(3, 16, 7, 4, 2), PoolBlock(16)
            self.down, self.stage2 = nn.Conv2d(16, 32, 3, 2, 1), PoolBlock(32)
            self.norm, self.head = nn.GroupNorm(1, 32), nn.Linear(32, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.norm(self.stage2(self.down(self.stage1(self.embed(x)))))
            return self.head(x.mean([-2, -1]))

    return PoolFormer()
