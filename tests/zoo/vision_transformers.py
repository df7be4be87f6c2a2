"""Networks for images that are made of tokens."""

from __future__ import annotations

import torch
from torch import nn

from .blocks import Attention, Block, FusedAttention, Mlp, SqueezeExcite, conv_norm
from .registry import images, network


class PatchEmbed(nn.Module):
    def __init__(self, patch: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch, patch)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class MeanViT(nn.Module):
    """The mean over all tokens is classified."""

    def __init__(self, dim: int = 32, depth: int = 2) -> None:
        super().__init__()
        self.embed, self.position = PatchEmbed(8, dim), nn.Parameter(0.5 * torch.randn(1, 16, dim))
        self.blocks = nn.Sequential(*(Block(dim, 4, FusedAttention) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.embed(x) + self.position)
        return self.head(self.norm(x.mean(dim=1)))


@network(images(), attention=True)
def vit_mean() -> nn.Module:
    return MeanViT()


class DeiT(nn.Module):
    """A class token and a distillation token, with a head each."""

    def __init__(self, dim: int = 32, depth: int = 2) -> None:
        super().__init__()
        self.embed = PatchEmbed(8, dim)
        self.cls_token, self.dist_token = (nn.Parameter(torch.randn(1, 1, dim)) for _ in range(2))
        self.pos_embed = nn.Parameter(0.5 * torch.randn(1, 18, dim))
        self.blocks = nn.ModuleList(Block(dim, 4) for _ in range(depth))
        self.norm, self.head, self.head_dist = nn.LayerNorm(dim), nn.Linear(dim, 10), nn.Linear(dim, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch = x.shape[0]
        x = self.embed(x)
        x = torch.cat((self.cls_token.expand(batch, -1, -1), self.dist_token.expand(batch, -1, -1), x), dim=1)
        x = x + self.pos_embed
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return (self.head(x[:, 0]) + self.head_dist(x[:, 1])) / 2


@network(images(), attention=True)
def deit() -> nn.Module:
    return DeiT()


class RelativeAttention(Attention):
    """With a bias for each distance, from a table."""

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__(dim, heads)
        self.table = nn.Parameter(torch.randn((2 * window - 1) ** 2, heads))
        grid = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        distance = grid[:, :, None] - grid[:, None] + window - 1
        self.register_buffer("index", distance[0] * (2 * window - 1) + distance[1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, dim = x.shape
        q, k, v = self.qkv(x).reshape(batch, length, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.table[self.index.view(-1)].view(length, length, -1).permute(2, 0, 1).contiguous()
        weights = ((q * self.scale) @ k.transpose(-2, -1) + bias.unsqueeze(0)).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(batch, length, dim))


class Partition(nn.Module):
    """Attention and MLP within windows, or over a grid of pixels that lie a window apart."""

    def __init__(self, dim: int, window: int, grid: bool) -> None:
        super().__init__()
        self.window, self.grid = window, grid
        self.norm1, self.attn = nn.LayerNorm(dim), RelativeAttention(dim, 2, window)
        self.norm2, self.mlp = nn.LayerNorm(dim), Mlp(dim, 2 * dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, h, w, c = x.shape
        p = self.window
        if self.grid:
            parts = x.view(n, p, h // p, p, w // p, c).permute(0, 2, 4, 1, 3, 5).contiguous().view(-1, p * p, c)
        else:
            parts = x.view(n, h // p, p, w // p, p, c).permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, p * p, c)
        parts = parts + self.attn(self.norm1(parts))
        parts = parts + self.mlp(self.norm2(parts))
        parts = parts.view(n, h // p, w // p, p, p, c)
        order = (0, 3, 1, 4, 2, 5) if self.grid else (0, 1, 3, 2, 4, 5)
        return parts.permute(*order).contiguous().view(n, h, w, c)


class MBConv(nn.Module):
    def __init__(self, inp: int, out: int, stride: int = 1, expand: int = 2) -> None:
        super().__init__()
        mid = inp * expand
        self.norm = nn.BatchNorm2d(inp)
        self.conv = nn.Sequential(
            conv_norm(inp, mid, 1, act=nn.GELU),
            conv_norm(mid, mid, 3, stride, groups=mid, act=nn.GELU),
            SqueezeExcite(mid, 8, act=nn.SiLU),
            nn.Conv2d(mid, out, 1),
        )
        self.short = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(inp, out, 1)) if stride > 1 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.short(x) + self.conv(self.norm(x))


class MaxViT(nn.Module):
    """Inverted residuals, attention in blocks, attention over a grid."""

    def __init__(self, dim: int = 16) -> None:
        super().__init__()
        self.stem, self.conv = conv_norm(3, 8, 3, 2, act=nn.GELU), MBConv(8, dim, 2)
        self.block, self.grid = Partition(dim, 4, grid=False), Partition(dim, 4, grid=True)
        self.head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(self.stem(x)).permute(0, 2, 3, 1)
        return self.head(self.grid(self.block(x)).mean((1, 2)))


@network(images(), attention=True)
def maxvit() -> nn.Module:
    return MaxViT()


class MobileViTBlock(nn.Module):
    """Local convolutions, then a transformer over the pixels of the same place in 2×2 patches."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv_norm(channels, channels, 3, act=nn.SiLU), nn.Conv2d(channels, dim, 1, bias=False)
        self.blocks, self.norm = nn.Sequential(Block(dim, 2), Block(dim, 2)), nn.LayerNorm(dim)
        self.conv3, self.conv4 = (
            conv_norm(dim, channels, 1, act=nn.SiLU),
            conv_norm(2 * channels, channels, 3, act=nn.SiLU),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x
        x = self.conv2(self.conv1(x))
        b, c, h, w = x.shape
        nh, nw = h // 2, w // 2
        x = (
            x.reshape(b * c * nh, 2, nw, 2)
            .transpose(1, 2)
            .reshape(b, c, nh * nw, 4)
            .transpose(1, 3)
            .reshape(b * 4, nh * nw, c)
        )
        x = self.norm(self.blocks(x))
        x = (
            x.contiguous()
            .view(b, 4, nh * nw, c)
            .transpose(1, 3)
            .reshape(b * c * nh, nw, 2, 2)
            .transpose(1, 2)
            .reshape(b, c, h, w)
        )
        return self.conv4(torch.cat((shortcut, self.conv3(x)), dim=1))


class MobileViT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        silu = nn.SiLU
        self.stem = conv_norm(3, 8, 3, 2, act=silu)
        self.mv2 = nn.Sequential(
            conv_norm(8, 16, 1, act=silu), conv_norm(16, 16, 3, 2, groups=16, act=silu), conv_norm(16, 16, 1, act=None)
        )
        self.block, self.pool = MobileViTBlock(16, 24), nn.AdaptiveAvgPool2d(1)
        self.last, self.fc = conv_norm(16, 32, 1, act=silu), nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.pool(self.last(self.block(self.mv2(self.stem(x))))).flatten(1))


@network(images(), attention=True)
def mobilevit() -> nn.Module:
    return MobileViT()


class MixerBlock(nn.Module):
    def __init__(self, tokens: int, dim: int) -> None:
        super().__init__()
        self.norm1, self.tokens = nn.LayerNorm(dim), Mlp(tokens, 2 * tokens)
        self.norm2, self.channels = nn.LayerNorm(dim), Mlp(dim, 2 * dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))


@network(images())
def mixer() -> nn.Module:
    class Mixer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.blocks = PatchEmbed(8, 32), nn.Sequential(MixerBlock(16, 32), MixerBlock(16, 32))
            self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.norm(self.blocks(self.embed(x))).mean(dim=1))

    return Mixer()
