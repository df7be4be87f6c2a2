"""Networks that read tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .registry import network, padding, tokens


class GruTagger(nn.Module):
    """A tag for every token."""

    def __init__(self, vocabulary: int = 40, dim: int = 16, tags: int = 6) -> None:
        super().__init__()
        self.embedding, self.gru = nn.Embedding(vocabulary, dim), nn.GRU(dim, 16, num_layers=2, batch_first=True)
        self.hidden, self.out = nn.Linear(16, 32), nn.Linear(32, tags)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h, _ = self.gru(self.embedding(x))
        return self.out(F.relu(self.hidden(h)))


@network(tokens(12, 40), recurrent=True)
def gru_tagger() -> nn.Module:
    return GruTagger()


class TextEncoder(nn.Module):
    """BERT's way: two embeddings, torch's encoder with a mask for the padding, and a mean over real tokens."""

    def __init__(self, vocabulary: int = 50, dim: int = 32, length: int = 12) -> None:
        super().__init__()
        self.words, self.positions, self.norm = (
            nn.Embedding(vocabulary, dim, padding_idx=0),
            nn.Embedding(length, dim),
            nn.LayerNorm(dim),
        )
        layer = nn.TransformerEncoderLayer(dim, 4, 2 * dim, dropout=0.0, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.pooler, self.classifier = nn.Linear(dim, dim), nn.Linear(dim, 4)

    def forward(self, ids: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
        place = torch.arange(ids.shape[1], device=ids.device).unsqueeze(0)
        x = self.norm(self.words(ids) + self.positions(place))
        x = self.encoder(x, src_key_padding_mask=padding)
        real = (~padding).unsqueeze(-1).to(x.dtype)
        mean = (x * real).sum(1) / real.sum(1).clamp(min=1e-9)
        return self.classifier(torch.tanh(self.pooler(mean)))


@network(tokens(12, 50), padding(12), attention=True)
def text_encoder() -> nn.Module:
    return TextEncoder()


class RmsNorm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5))


class GptBlock(nn.Module):
    """Rotary positions, a causal mask, gated feed-forward."""

    def __init__(self, dim: int, heads: int, length: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = RmsNorm(dim), RmsNorm(dim)
        self.wq, self.wk, self.wv, self.wo = (nn.Linear(dim, dim, bias=False) for _ in range(4))
        self.w1, self.w3, self.w2 = (
            nn.Linear(dim, 2 * dim, bias=False),
            nn.Linear(dim, 2 * dim, bias=False),
            nn.Linear(2 * dim, dim, bias=False),
        )
        half = dim // heads // 2
        angles = torch.arange(length)[:, None] * 0.5 ** torch.arange(half)
        self.register_buffer("cos", torch.cat([angles.cos(), angles.cos()], -1))
        self.register_buffer("sin", torch.cat([angles.sin(), angles.sin()], -1))
        self.register_buffer("mask", torch.tril(torch.ones(length, length)).view(1, 1, length, length))

    def rotate(self, x: torch.Tensor, length: int) -> torch.Tensor:
        first, second = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
        return x * self.cos[:length] + torch.cat((-second, first), dim=-1) * self.sin[:length]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, dim = x.shape
        y = self.norm1(x)
        q, k, v = (w(y).view(batch, length, self.heads, -1).transpose(1, 2) for w in (self.wq, self.wk, self.wv))
        scores = self.rotate(q, length) @ self.rotate(k, length).transpose(2, 3) / (dim // self.heads) ** 0.5
        scores = scores.masked_fill(self.mask[:, :, :length, :length] == 0, float("-inf"))
        y = (F.softmax(scores, dim=-1) @ v).transpose(1, 2).contiguous().view(batch, length, dim)
        x = x + self.wo(y)
        y = self.norm2(x)
        return x + self.w2(F.silu(self.w1(y)) * self.w3(y))


class Gpt(nn.Module):
    """The logits share their weights with the embedding."""

    def __init__(self, vocabulary: int = 40, dim: int = 32, length: int = 10) -> None:
        super().__init__()
        self.embedding, self.blocks = (
            nn.Embedding(vocabulary, dim),
            nn.Sequential(*(GptBlock(dim, 4, length) for _ in range(2))),
        )
        self.norm, self.head = RmsNorm(dim), nn.Linear(dim, vocabulary, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.blocks(self.embedding(ids))))


@network(tokens(10, 40), attention=True)
def gpt() -> nn.Module:
    return Gpt()
