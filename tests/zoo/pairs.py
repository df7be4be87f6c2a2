"""Networks with inputs of several kinds, with recurrent layers, and such that make images of images."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from .blocks import LayerNorm2d, conv_norm
from .registry import images, network, series, tokens, vectors


class LstmTagger(nn.Module):
    """A tag for every token; embedding, a bidirectional LSTM, and logarithms of probabilities."""

    def __init__(self, vocabulary: int = 40, dim: int = 16, hidden: int = 16, tags: int = 6) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, dim)
        self.lstm = nn.LSTM(dim, hidden, batch_first=True, bidirectional=True)
        self.dropout, self.out = nn.Dropout(0.3), nn.Linear(2 * hidden, tags)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        h, _ = self.lstm(self.embedding(ids))
        return F.log_softmax(self.out(self.dropout(h)), dim=-1)


@network(tokens(12, 40), recurrent=True)
def lstm_tagger() -> nn.Module:
    return LstmTagger()


class Recommender(nn.Module):
    """DLRM: numbers through an MLP, categories through bags of embeddings, products of all pairs, an MLP on top."""

    def __init__(self, dense: int = 6, vocabulary: int = 60, dim: int = 16) -> None:
        super().__init__()
        self.bottom = nn.Sequential(nn.Linear(dense, 32), nn.ReLU(), nn.Linear(32, dim), nn.ReLU())
        self.history = nn.EmbeddingBag(vocabulary, dim, mode="mean")
        self.tags = nn.EmbeddingBag(vocabulary, dim, mode="sum")
        self.user = nn.Embedding(vocabulary, dim)
        rows, columns = torch.tril_indices(4, 4, -1)
        self.register_buffer("pairs", rows * 4 + columns)
        self.top = nn.Sequential(nn.Linear(dim + 6, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, x: torch.Tensor, user: torch.Tensor, history: torch.Tensor, tags: torch.Tensor) -> torch.Tensor:
        dense = self.bottom(x)
        sparse = [self.user(user).squeeze(1), self.history(history), self.tags(tags) * 0.5]
        stacked = torch.stack([dense, *sparse], dim=1)
        products = torch.bmm(stacked, stacked.transpose(1, 2)).flatten(1)[:, self.pairs]
        return torch.sigmoid(self.top(torch.cat([dense, products], dim=1)))


@network(vectors(6), tokens(1, 60), tokens(5, 60), tokens(3, 60), batch=32)
def recommender() -> nn.Module:
    return Recommender()


class Siamese(nn.Module):
    """Two images through the same network; how far they are apart, and how similar."""

    def __init__(self, dim: int = 16) -> None:
        super().__init__()
        self.features = nn.Sequential(
            conv_norm(1, 8, 3, 2), conv_norm(8, 16, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, dim)
        )
        self.judge = nn.Sequential(nn.Linear(2 * dim, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a, b = self.features(first), self.features(second)
        return self.judge(torch.cat([torch.abs(a - b), a * b], dim=1)), F.cosine_similarity(a, b)


@network(images(1, 24), images(1, 24))
def siamese() -> nn.Module:
    return Siamese()


@network(images(1, 16))
def espcn() -> nn.Module:
    """Super-resolution: tanh, and one shuffle of pixels at the end."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, padding=2), nn.Tanh(), nn.Conv2d(16, 8, 3, padding=1), nn.Tanh(),
        nn.Conv2d(8, 9, 3, padding=1), nn.PixelShuffle(3), nn.Sigmoid(),
    )  # fmt: skip


class NafBlock(nn.Module):
    """Restoration without activations: half of the channels times the other half, scales that start small."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        c = channels
        self.norm1, self.norm2 = LayerNorm2d(c), LayerNorm2d(c)
        self.conv1, self.dw = nn.Conv2d(c, 2 * c, 1), nn.Conv2d(2 * c, 2 * c, 3, padding=1, groups=2 * c)
        self.sca = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, c, 1))
        self.conv2, self.conv3, self.conv4 = nn.Conv2d(c, c, 1), nn.Conv2d(c, 2 * c, 1), nn.Conv2d(c, c, 1)
        self.beta, self.gamma = (nn.Parameter(torch.full((1, c, 1, 1), 0.4)) for _ in range(2))

    @staticmethod
    def gated(x: torch.Tensor) -> torch.Tensor:
        a, b = x.chunk(2, dim=1)
        return a * b

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.gated(self.dw(self.conv1(self.norm1(x))))
        y = x + self.conv2(y * self.sca(y)) * self.beta
        return y + self.conv4(self.gated(self.conv3(self.norm2(y)))) * self.gamma


class NafNet(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        w = width
        self.intro, self.enc, self.down = nn.Conv2d(3, w, 3, padding=1), NafBlock(w), nn.Conv2d(w, 2 * w, 2, 2)
        self.mid = NafBlock(2 * w)
        self.up, self.dec = nn.Sequential(nn.Conv2d(2 * w, 4 * w, 1, bias=False), nn.PixelShuffle(2)), NafBlock(w)
        self.ending = nn.Conv2d(w, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.enc(self.intro(x))
        return x + self.ending(self.dec(self.up(self.mid(self.down(first))) + first))


@network(images(size=16))
def nafnet() -> nn.Module:
    return NafNet()


class EcgBlock(nn.Module):
    """Wide kernels over time; the shortcut is a maximum pool with channels of zeros."""

    def __init__(self, inp: int, out: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm1d(inp), nn.Conv1d(inp, out, 15, stride, 7, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm1d(out), nn.Conv1d(out, out, 15, 1, 7, bias=False)
        self.pool, self.more = nn.MaxPool1d(stride), out - inp

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(F.relu(self.norm1(x)))
        y = self.conv2(F.dropout(F.relu(self.norm2(y)), 0.2, self.training))
        return y + F.pad(self.pool(x), (0, 0, 0, self.more))


@network(series(2, 96))
def ecg() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 16, 15, padding=7, bias=False), nn.BatchNorm1d(16), nn.ReLU(),
        EcgBlock(16, 16, 2), EcgBlock(16, 24, 2), EcgBlock(24, 32, 2),
        nn.BatchNorm1d(32), nn.ReLU(), nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(32, 5),
    )  # fmt: skip


class Autoencoder(nn.Module):
    """Anomalies in sounds: the error of a reconstruction through eight numbers."""

    def __init__(self, inputs: int = 40) -> None:
        super().__init__()
        widths = (inputs, 32, 32, 8, 32, 32)
        layers: list[nn.Module] = []
        for inp, out in pairwise(widths):
            layers += [nn.Linear(inp, out), nn.BatchNorm1d(out), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(32, inputs))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.layers(x.flatten(1))
        return y, ((y - x.flatten(1)) ** 2).mean(dim=1)


@network(vectors(5, 8), batch=32)
def autoencoder() -> nn.Module:
    return Autoencoder()
