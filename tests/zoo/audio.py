"""Networks for signals over time: Conv1d in all its forms."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .registry import images, network, series


class CausalConv1d(nn.Conv1d):
    """Zeros on the left alone."""

    def __init__(self, inp: int, out: int, kernel: int, dilation: int = 1, stride: int = 1) -> None:
        super().__init__(inp, out, kernel, stride, dilation=dilation)
        self.left = dilation * (kernel - 1) - (stride - 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(F.pad(x, (self.left, 0)))


class WaveLayer(nn.Module):
    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.dilated = CausalConv1d(channels, 2 * channels, 2, dilation)
        self.residual, self.skip = nn.Conv1d(channels, channels, 1), nn.Conv1d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        filtered, gate = self.dilated(x).chunk(2, dim=1)
        z = torch.tanh(filtered) * torch.sigmoid(gate)
        return self.residual(z) + x, self.skip(z)


class WaveNet(nn.Module):
    """Causal, dilated, gated; the skips of all layers are summed."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.start = CausalConv1d(1, channels, 2)
        self.layers = nn.ModuleList(WaveLayer(channels, 2**i) for i in range(4))
        self.end1, self.end2 = nn.Conv1d(channels, channels, 1), nn.Conv1d(channels, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.start(x)
        total = 0
        for layer in self.layers:
            x, skip = layer(x)
            total = total + skip
        return self.end2(F.relu(self.end1(F.relu(total))))


@network(series(1, 64))
def wavenet() -> nn.Module:
    return WaveNet()


def separable(inp: int, out: int, kernel: int, dilation: int = 1) -> list[nn.Module]:
    pad = dilation * (kernel - 1) // 2
    return [
        nn.Conv1d(inp, inp, kernel, padding=pad, dilation=dilation, groups=inp, bias=False),
        nn.Conv1d(inp, out, 1, bias=False),
        nn.BatchNorm1d(out),
    ]


class KeywordBlock(nn.Module):
    """MatchboxNet: separable convolutions and a residual of 1×1."""

    def __init__(self, inp: int, out: int, kernel: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *separable(inp, out, kernel), nn.ReLU(), nn.Dropout(0.1), *separable(out, out, kernel)
        )
        self.residual = nn.Sequential(nn.Conv1d(inp, out, 1, bias=False), nn.BatchNorm1d(out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.body(x) + self.residual(x))


@network(series(16, 50))
def keyword_spotting() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(16, 24, 11, stride=2, padding=5, bias=False),
        nn.BatchNorm1d(24),
        nn.ReLU(),
        KeywordBlock(24, 16, 13),
        KeywordBlock(16, 16, 15),
        *separable(16, 24, 17, 2),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(24, 12),
    )


class ResidualUnit(nn.Module):
    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            CausalConv1d(channels, channels, 7, dilation), nn.ELU(), nn.Conv1d(channels, channels, 1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x)


class SoundStream(nn.Module):
    """Strided convolutions down, transposed ones up; ELU between them."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        c = channels
        self.encoder = nn.Sequential(
            CausalConv1d(1, c, 7), ResidualUnit(c, 1), nn.ELU(), CausalConv1d(c, 2 * c, 4, stride=2),
            ResidualUnit(2 * c, 3), nn.ELU(), CausalConv1d(2 * c, 2 * c, 8, stride=4), nn.ELU(),
            CausalConv1d(2 * c, 8, 3),
        )  # fmt: skip
        self.first, self.up1, self.up2 = (
            CausalConv1d(8, 2 * c, 7),
            nn.ConvTranspose1d(2 * c, 2 * c, 8, 4),
            nn.ConvTranspose1d(2 * c, c, 4, 2),
        )
        self.unit1, self.unit2, self.last = ResidualUnit(2 * c, 3), ResidualUnit(c, 1), CausalConv1d(c, 1, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.elu(self.first(self.encoder(x)))
        x = F.elu(self.unit1(self.up1(x)[..., :-4]))  # what a causal transposed convolution has too much
        x = F.elu(self.unit2(self.up2(x)[..., :-2]))
        return torch.tanh(self.last(x))


@network(series(1, 64))
def soundstream() -> nn.Module:
    return SoundStream()


class Chomp(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :, : -self.size].contiguous()


class TemporalBlock(nn.Module):
    """Padded on both sides, cut on the right; a 1×1 convolution where the widths differ."""

    def __init__(self, inp: int, out: int, kernel: int, dilation: int) -> None:
        super().__init__()
        pad = (kernel - 1) * dilation
        layers: list[nn.Module] = []
        for channels in (inp, out):
            conv = nn.Conv1d(channels, out, kernel, padding=pad, dilation=dilation)
            layers += [conv, Chomp(pad), nn.ReLU(), nn.Dropout(0.2)]
        self.net, self.downsample = nn.Sequential(*layers), nn.Conv1d(inp, out, 1) if inp != out else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.net(x) + (x if self.downsample is None else self.downsample(x)))


class Tcn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tcn = nn.Sequential(TemporalBlock(4, 16, 3, 1), TemporalBlock(16, 16, 3, 2), TemporalBlock(16, 24, 3, 4))
        self.linear = nn.Linear(24, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.tcn(x)[:, :, -1])


@network(series(4, 40))
def tcn() -> nn.Module:
    return Tcn()


class Crnn(nn.Module):
    """Text in images: convolutions to one row, then a bidirectional LSTM over the columns."""

    def __init__(self) -> None:
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, 2),
            nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d((2, 2), (2, 1), (0, 1)),
            nn.Conv2d(16, 24, (4, 2)), nn.ReLU(),
        )  # fmt: skip
        self.rnn, self.embedding = nn.LSTM(24, 16, bidirectional=True), nn.Linear(32, 11)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        conv = self.cnn(x)
        recurrent, _ = self.rnn(conv.squeeze(2).permute(2, 0, 1))  # [columns, N, channels]
        steps, batch, hidden = recurrent.size()
        return self.embedding(recurrent.view(steps * batch, hidden)).view(steps, batch, -1).permute(1, 0, 2)


@network(images(1, (16, 48)), recurrent=True)
def crnn() -> nn.Module:
    return Crnn()
