"""Networks whose files the tools are given: random weights, grids calibrated on noise, nothing trained."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

import calib
import lsq_export
from lsq_export import models

NETWORKS = ("tiny-w4a4", "tiny-w8a8", "light-w4a4", "light-w8a8")
FILES = (("ort-cpu", "qdq"), ("ort-cpu", "qoperator"), ("portable", "qdq"))
SHAPE = (3, 32, 32)
IMAGES = 64


class Light(nn.Module):
    """A block as in EfficientNet: SiLU, a depthwise convolution, a gate for each channel, a residual addition."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(3, 16, 3, stride=2)
        self.expand, self.depthwise = _conv(16, 64, 1), _conv(64, 64, 3, groups=64)
        self.squeeze, self.excite = nn.Conv2d(64, 16, 1), nn.Conv2d(16, 64, 1)
        self.project, self.head, self.fc = _conv(64, 16, 1), _conv(16, 64, 1), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images [N, 3, H, W] -> logits [N, 10]."""
        x = F.silu(self.stem(x))
        y = F.silu(self.depthwise(F.silu(self.expand(x))))
        y = y * torch.sigmoid(self.excite(F.silu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        x = F.silu(self.head(self.project(y) + x)).mean((2, 3))
        logits: torch.Tensor = self.fc(x)
        return logits


def _conv(before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Module:
    conv = nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after))


def images(seed: int) -> torch.Tensor:
    """Noise, [IMAGES, 3, 32, 32]."""
    return torch.randn((IMAGES, *SHAPE), generator=torch.Generator().manual_seed(seed))


def exported(network: str, target: str, directory: Path) -> lsq_export.Bundle:
    """The bundle of a network, such as tiny-w4a4, for a target: the one that is there, or a new one."""
    if directory.exists():
        return lsq_export.open_bundle(directory)
    name, _, bits = network.partition("-w")
    torch.manual_seed(0)
    net = Light() if name == "light" else models.build("tiny", num_classes=10)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            _as_trained(layer)
    weights, _, activations = bits.partition("a")
    config = lsq_export.QATConfig(weight_bits=int(weights), activation_bits=int(activations))
    model = lsq_export.prepare(net.eval(), config)
    calib.initialize(model, [images(1)], method="mse")
    return lsq_export.export(model, torch.zeros(1, *SHAPE), directory, calibration=[images(1)], target=target)


@torch.no_grad()
def _as_trained(norm: nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None and norm.running_var is not None
    norm.weight.uniform_(0.5, 1.5)
    norm.bias.uniform_(-0.3, 0.5)
    norm.running_mean.uniform_(-0.2, 0.2)
    norm.running_var.uniform_(0.5, 1.5)
