"""Random networks whose batch norms were driven towards zero, as weight decay leaves them: γ from 1e-1 to 1e-6 and 0
beside biases up to 1, mixed over the channels of each layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import calib
import lsq_export
from support.published import published

SHAPE = (3, 8, 8)
GAMMAS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 0.0)
KINDS = ("conv", "depthwise", "grouped", "pointwise", "residual", "mixed", "linear")


@dataclass(frozen=True)
class Decayed:
    """kinds: of its blocks; config: for QATConfig; share: of the channels whose γ is normal; seed: of every number."""

    kinds: tuple[str, ...]
    config: dict[str, Any]
    share: float
    seed: int


def draw(seed: int) -> Decayed:
    """One of the networks, with options of any kind."""
    rng = np.random.default_rng(seed)

    def one(*values: Any) -> Any:
        return values[rng.integers(len(values))]

    bits = one(2, 3, 4, 8)
    config = {
        "weight_bits": bits,
        "activation_bits": bits,
        "first_last_bits": one(8, None),
        "weight_granularity": one("tensor", "channel"),
        "activation_grid": one("unsigned-asymmetric", "unsigned-asymmetric", "signed-asymmetric", "signed-symmetric"),
        "offset": one("real", "real", "integer", "container"),
        "edges": one("calibrated", "calibrated", "trained"),
    }
    kinds = tuple(str(kind) for kind in rng.choice(KINDS, rng.integers(1, 4)))
    return Decayed(kinds, config, float(one(0.0, 0.25, 0.5)), seed)


def _decayed_norm(norm: Any, share: float, rng: np.random.Generator) -> Any:
    channels = norm.num_features
    gamma = rng.choice(GAMMAS, channels) * rng.choice([-1, 1], channels) * rng.uniform(0.5, 1, channels)
    gamma = np.where(rng.uniform(size=channels) < share, rng.uniform(0.5, 1.5, channels), gamma)
    values = {"weight": gamma, "bias": rng.uniform(-1, 1, channels)}
    values |= {"running_mean": rng.normal(0, 0.5, channels), "running_var": rng.uniform(0.3, 2, channels)}
    with torch.no_grad():
        for name, value in values.items():
            getattr(norm, name).copy_(torch.from_numpy(value))
    return norm


class Block(nn.Module):
    """A layer of the kind, a batch norm of small γ, and mostly a Relu; 8 channels in and out."""

    def __init__(self, kind: str, share: float, rng: np.random.Generator) -> None:
        super().__init__()
        self.kind, bias = kind, bool(rng.integers(2))
        self.relu = bool(rng.integers(4))
        groups = {"depthwise": 8, "grouped": 4}.get(kind, 1)
        if kind == "pointwise":
            self.conv: nn.Module = nn.Conv2d(8, 8, 1, bias=bias)
        elif kind == "mixed":
            self.conv, self.wide = nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.Conv2d(4, 4, 5, padding=2, groups=4)
        elif kind == "linear":
            self.conv = nn.Linear(8, 8, bias=bias)
        else:
            self.conv = nn.Conv2d(8, 8, 3, padding=int(rng.integers(2)), groups=groups, bias=bias)
            if kind == "residual":
                self.conv = nn.Conv2d(8, 8, 3, padding=1, bias=bias)
        self.norm = _decayed_norm(nn.BatchNorm1d(8) if kind == "linear" else nn.BatchNorm2d(8), share, rng)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind == "linear":
            y = self.norm(self.conv(x.mean((2, 3))))[:, :, None, None] + x
        elif self.kind == "mixed":
            y = self.norm(torch.cat([self.conv(x[:, :4]), self.wide(x[:, 4:])], 1))
        else:
            y = self.norm(self.conv(x))
            y = y + x if self.kind == "residual" else y
        return F.relu(y) if self.relu else y


class Network(nn.Module):
    def __init__(self, spec: Decayed) -> None:
        super().__init__()
        rng = np.random.default_rng(spec.seed + 1)
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = _decayed_norm(nn.BatchNorm2d(8), spec.share, rng)
        self.blocks = nn.Sequential(*(Block(kind, spec.share, rng) for kind in spec.kinds))
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(F.relu(self.norm(self.stem(x)))).mean((2, 3)))


def build(spec: Decayed) -> tuple[nn.Module, torch.Tensor]:
    """The prepared, initialized model, and inputs [32, 3, 8, 8]."""
    torch.manual_seed(spec.seed)
    model = lsq_export.prepare(Network(spec).eval(), published(**spec.config))
    x = torch.randn(32, *SHAPE, generator=torch.Generator().manual_seed(spec.seed)) * 1.5
    calib.initialize(model, [x], method="minmax")
    return model, x
