"""Networks for images that attend within windows, or with a class token, or between convolutions."""

from __future__ import annotations

import torch
from torch import nn

from .blocks import Attention, Block, Mlp, conv_norm
from .registry import images, network, series
from .vision_transformers import PatchEmbed, RelativeAttention


class ClassViT(nn.Module):
    """The class token is classified; torch's own multi-head attention and encoder layers."""

    def __init__(self, dim: int = 32, depth: int = 2) -> None:
        super().__init__()
        self.embed = PatchEmbed(8, dim)
        self.class_token = nn.Parameter(torch.randn(1, 1, dim))
        self.position = nn.Parameter(0.5 * torch.randn(1, 17, dim))
        layer = nn.TransformerEncoderLayer(
            dim, 4, 2 * dim, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, depth, norm=nn.LayerNorm(dim), enable_nested_tensor=False)
        self.head = nn.Linear(dim, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x)
        x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], dim=1) + self.position
        return self.head(self.encoder(x)[:, 0])


@network(images(), attention=True)
def vit_class() -> nn.Module:
    return ClassViT()


class WindowAttention(RelativeAttention):
    """Swin's: with a mask for windows that were joined by the shift."""

    def masked(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        batch, length, dim = x.shape
        q, k, v = self.qkv(x).reshape(batch, length, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.table[self.index.view(-1)].view(length, length, -1).permute(2, 0, 1).contiguous()
        scores = (q * self.scale) @ k.transpose(-2, -1) + bias.unsqueeze(0)
        if mask is not None:
            windows = mask.shape[0]
            scores = scores.view(batch // windows, windows, self.heads, length, length) + mask.unsqueeze(1).unsqueeze(0)
            scores = scores.view(-1, self.heads, length, length)
        return self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, dim))


def split(x: torch.Tensor, window: int) -> torch.Tensor:
    """[N, H, W, C] -> [N · windows, window, window, C]"""
    n, h, w, c = x.shape
    x = x.view(n, h // window, window, w // window, window, c)
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, window, window, c)


def joined(windows: torch.Tensor, window: int, h: int, w: int) -> torch.Tensor:
    """The other way round."""
    x = windows.view(-1, h // window, w // window, window, window, windows.shape[-1])
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(x.shape[0], h, w, -1)


class SwinBlock(nn.Module):
    def __init__(self, dim: int, size: int, window: int, shift: int) -> None:
        super().__init__()
        self.size, self.window, self.shift = size, window, shift
        self.norm1, self.attn = nn.LayerNorm(dim), WindowAttention(dim, 2, window)
        self.norm2, self.mlp = nn.LayerNorm(dim), Mlp(dim, 2 * dim)
        mask = None
        if shift > 0:
            area = torch.zeros(1, size, size, 1)
            parts = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
            for number, (rows, columns) in enumerate((r, c) for r in parts for c in parts):
                area[:, rows, columns, :] = number
            ids = split(area, window).view(-1, window * window)
            mask = (ids.unsqueeze(1) - ids.unsqueeze(2)).ne(0).float() * -100.0
        self.register_buffer("mask", mask)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, dim = x.shape
        y = self.norm1(x).view(batch, self.size, self.size, dim)
        if self.shift > 0:
            y = torch.roll(y, shifts=(-self.shift, -self.shift), dims=(1, 2))
        windows = split(y, self.window).view(-1, self.window * self.window, dim)
        windows = self.attn.masked(windows, self.mask).view(-1, self.window, self.window, dim)
        y = joined(windows, self.window, self.size, self.size)
        if self.shift > 0:
            y = torch.roll(y, shifts=(self.shift, self.shift), dims=(1, 2))
        x = x + y.view(batch, length, dim)
        return x + self.mlp(self.norm2(x))


class PatchMerging(nn.Module):
    def __init__(self, dim: int, size: int) -> None:
        super().__init__()
        self.size, self.norm, self.reduction = size, nn.LayerNorm(4 * dim), nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, _, dim = x.shape
        x = x.view(batch, self.size, self.size, dim)
        parts = [x[:, i::2, j::2, :] for j in (0, 1) for i in (0, 1)]
        return self.reduction(self.norm(torch.cat(parts, -1).view(batch, -1, 4 * dim)))


class Swin(nn.Module):
    def __init__(self, dim: int = 16) -> None:
        super().__init__()
        self.embed, self.norm0 = PatchEmbed(4, dim), nn.LayerNorm(dim)
        self.stage1 = nn.Sequential(SwinBlock(dim, 8, 4, 0), SwinBlock(dim, 8, 4, 2), PatchMerging(dim, 8))
        self.stage2 = nn.Sequential(SwinBlock(2 * dim, 4, 4, 0))
        self.norm, self.pool, self.head = nn.LayerNorm(2 * dim), nn.AdaptiveAvgPool1d(1), nn.Linear(2 * dim, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.stage2(self.stage1(self.norm0(self.embed(x)))))
        return self.head(torch.flatten(self.pool(x.transpose(1, 2)), 1))


@network(images(), attention=True)
def swin() -> nn.Module:
    return Swin()


class LinearNorm(nn.Sequential):
    """LeViT: a linear layer and a batch norm over all tokens."""

    def __init__(self, inp: int, out: int) -> None:
        super().__init__(nn.Linear(inp, out, bias=False), nn.BatchNorm1d(out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self[0](x)
        return self[1](x.flatten(0, 1)).reshape_as(x)


class LevitAttention(nn.Module):
    """Keys narrower than values, a bias for each distance, hard-swish before the projection."""

    def __init__(self, dim: int, heads: int, key: int, size: int) -> None:
        super().__init__()
        self.heads, self.key, self.value, self.scale = heads, key, 2 * key, key**-0.5
        self.qkv = LinearNorm(dim, heads * 4 * key)
        self.proj = nn.Sequential(nn.Hardswish(), LinearNorm(heads * 2 * key, dim))
        places = torch.stack(torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij"), -1).view(-1, 2)
        apart = (places[:, None] - places[None]).abs()
        self.register_buffer("distance", apart[..., 0] * size + apart[..., 1])
        self.biases = nn.Parameter(torch.randn(heads, size * size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, _ = x.shape
        q, k, v = self.qkv(x).view(batch, length, self.heads, -1).split([self.key, self.key, self.value], dim=3)
        q, k, v = q.permute(0, 2, 1, 3), k.permute(0, 2, 3, 1), v.permute(0, 2, 1, 3)
        weights = (q @ k) * self.scale + self.biases[:, self.distance]
        x = (weights.softmax(dim=-1) @ v).transpose(1, 2).reshape(batch, length, self.heads * self.value)
        return self.proj(x)


class Levit(nn.Module):
    def __init__(self, dim: int = 32) -> None:
        super().__init__()
        act = nn.Hardswish
        self.stem = nn.Sequential(
            conv_norm(3, 8, 3, 2, act=act), conv_norm(8, 16, 3, 2, act=act), conv_norm(16, dim, 3, 2, act=None)
        )
        self.attention = nn.ModuleList(LevitAttention(dim, 4, 4, 4) for _ in range(2))
        self.mlps = nn.ModuleList(
            nn.Sequential(LinearNorm(dim, 2 * dim), nn.Hardswish(), LinearNorm(2 * dim, dim)) for _ in range(2)
        )
        self.norm, self.head = nn.BatchNorm1d(dim), nn.Linear(dim, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        for attention, mlp in zip(self.attention, self.mlps, strict=True):
            x = x + attention(x)
            x = x + mlp(x)
        return self.head(self.norm(x.mean(1)))


@network(images(), attention=True)
def levit() -> nn.Module:
    return Levit()


class ConformerBlock(nn.Module):
    """Speech: half a feed-forward, attention, a gated depthwise convolution over time, half a feed-forward, a norm."""

    def __init__(self, dim: int, kernel: int = 7) -> None:
        super().__init__()
        silu = nn.SiLU
        self.ff1, self.ff2 = (
            nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), silu(), nn.Linear(2 * dim, dim)) for _ in "12"
        )
        self.norm, self.attention = nn.LayerNorm(dim), Attention(dim, 4)
        self.norm_conv, self.last = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.conv = nn.Sequential(
            nn.Conv1d(dim, 2 * dim, 1), nn.GLU(dim=1),
            nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=dim), nn.BatchNorm1d(dim), silu(),
            nn.Conv1d(dim, dim, 1),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + 0.5 * self.ff1(x)
        x = x + self.attention(self.norm(x))
        x = x + self.conv(self.norm_conv(x).transpose(1, 2)).transpose(1, 2)
        return self.last(x + 0.5 * self.ff2(x))


class Conformer(nn.Module):
    def __init__(self, features: int = 16, dim: int = 24, letters: int = 12) -> None:
        super().__init__()
        self.subsample = nn.Sequential(nn.Conv1d(features, dim, 3, 2, 1), nn.ReLU())
        self.blocks, self.out = nn.Sequential(ConformerBlock(dim), ConformerBlock(dim)), nn.Linear(dim, letters)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.blocks(self.subsample(x).transpose(1, 2))).log_softmax(-1)


@network(series(16, 32), attention=True)
def conformer() -> nn.Module:
    return Conformer()


@network(images(), attention=True)
def coatnet() -> nn.Module:
    class CoAtNet(nn.Module):
        """Depthwise convolutions first, transformer blocks on what is left of the image."""

        def __init__(self, dim: int = 24) -> None:
            super().__init__()
            gelu = nn.GELU
            self.stem = nn.Sequential(conv_norm(3, 8, 3, 2, act=gelu), conv_norm(8, 8, 3, act=gelu))
            self.mb = nn.Sequential(
                nn.BatchNorm2d(8), conv_norm(8, 32, 1, act=gelu), conv_norm(32, 32, 3, 2, groups=32, act=gelu),
                nn.Conv2d(32, dim, 1),
            )  # fmt: skip
            self.short = nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.Conv2d(8, dim, 1))
            self.pool, self.blocks = nn.MaxPool2d(2), nn.Sequential(Block(dim, 2), Block(dim, 2))
            self.head = nn.Linear(dim, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.stem(x)
            x = self.pool(self.short(x) + self.mb(x))
            return self.head(self.blocks(x.flatten(2).permute(0, 2, 1)).mean(1))

    return CoAtNet()
