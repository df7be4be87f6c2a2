"""Random networks for property tests: what users bring, small."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import nn

import calib
import lsq_export
from calib.grid import code_range
from lsq_export.qat.quantizer import Quantizer

BLOCKS = ("conv", "conv", "norm_relu", "residual", "concat", "twice", "fork", "pool", "average", "preact", "relu6")
OPERATORS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "silu": F.silu,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "leaky": lambda x: F.leaky_relu(x, 0.1),
    "tanh": torch.tanh,
    "square": lambda x: x * x,
    "constants": lambda x: 0.4 - x / 3,
    "pad": lambda x: F.pad(x, (1, 0, 0, 2)),
    "pad_value": lambda x: F.pad(x, (0, 1, 1, 0), value=0.3),
    "reflect": lambda x: F.pad(x, (1, 1, 1, 1), mode="replicate"),
    "resize": lambda x: F.interpolate(x, scale_factor=2)[:, :, 1:9, :-3],
    "slices": lambda x: torch.cat([x[:, 3:], F.relu(x[:, :3])], 1),
    "matmul": lambda x: x @ x.transpose(2, 3),
}
ISLANDS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": F.gelu,
    "sin": torch.sin,
    "softmax": lambda x: F.softmax(x, 1),
}


@dataclass(frozen=True)
class Spec:
    """blocks: kinds of BLOCKS, "se", or names of OPERATORS or ISLANDS; bits: one for all layers but the first and the
    last, or "mixed": 2 to 8, by chance, for each input and weight; seed: of every number."""

    blocks: tuple[str, ...]
    bits: int | str
    first_last_bits: int | None
    granularity: str
    grid: str
    offset: str
    offsets: str
    edges: str
    seed: int


def specs(blocks: tuple[str, ...] = BLOCKS) -> st.SearchStrategy[Spec]:
    return st.builds(
        Spec,
        blocks=st.lists(st.sampled_from(blocks), min_size=1, max_size=6).map(tuple),
        bits=st.sampled_from([2, 3, 4, 8, "mixed", "mixed"]),
        first_last_bits=st.sampled_from([8, None]),
        granularity=st.sampled_from(["tensor", "channel"]),
        grid=st.sampled_from(
            [
                "unsigned-asymmetric",
                "unsigned-asymmetric",
                "signed-asymmetric",
                "signed-symmetric",
                "unsigned-symmetric",
            ]
        ),
        offset=st.sampled_from(["real", "real", "integer", "container"]),
        offsets=st.sampled_from(["learned", "negative", "zero", "positive", "beyond"]),
        edges=st.sampled_from(["calibrated", "calibrated", "trained"]),
        seed=st.integers(0, 2**31),
    )


class Block(nn.Module):
    """One block of the kind; geometry from the generator. Output channels are a multiple of 4."""

    def __init__(self, kind: str, channels: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.kind, self.out = kind, channels
        wide = int(rng.choice([8, 12]))
        if kind in ("conv", "norm_relu", "relu6"):
            self.conv, self.out = _conv(channels, wide, rng), wide
        elif kind in ("residual", "twice"):
            self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=bool(rng.integers(2)))
        elif kind in ("concat", "fork"):
            self.conv, self.other, self.out = nn.Conv2d(channels, 4, 3, padding=1), nn.Conv2d(channels, 8, 1), 12
        elif kind == "se":
            self.conv, self.other = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)
        elif kind in OPERATORS or kind in ISLANDS:
            # else it reads whatever is in front
            self.conv = nn.Conv2d(channels, channels, 1) if rng.integers(2) else nn.Identity()
        elif kind == "preact":
            self.conv = nn.Conv2d(channels, channels, 1, groups=channels if rng.integers(2) else 1)
        normed = channels if kind in ("preact", "residual") else self.out
        self.norm = _norm(normed, rng) if kind in ("norm_relu", "residual", "preact", "relu6") else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind == "conv":
            return self.conv(x)
        if self.kind == "norm_relu":
            return F.relu(self.norm(self.conv(x)))
        if self.kind == "relu6":
            return F.relu6(self.norm(self.conv(x)))
        if self.kind == "residual":
            return F.relu(x + self.norm(self.conv(x)))
        if self.kind == "twice":
            return self.conv(F.relu(self.conv(x)))
        if self.kind == "concat":
            return torch.cat([F.relu(self.conv(x)), self.other(x)], dim=1)
        if self.kind == "fork":
            y = F.relu(x)
            return torch.cat([self.other(y), self.conv(y)], dim=1)
        if self.kind in OPERATORS or self.kind in ISLANDS:
            return {**OPERATORS, **ISLANDS}[self.kind](self.conv(x))
        if self.kind == "se":
            return x * torch.sigmoid(self.other(F.silu(self.conv(x.mean((2, 3), keepdim=True)))))
        if self.kind == "pool":
            return F.max_pool2d(x, 3, 1, 1)
        if self.kind == "average":
            return F.avg_pool2d(x, 3, 1, 1)
        return self.conv(F.relu(self.norm(x)))


def _conv(channels: int, wide: int, rng: np.random.Generator) -> nn.Conv2d:
    """Kernels of 1 to 7, not always square; "same" pads an even kernel on one side more."""
    rows, columns = (
        int(k) for k in (rng.integers(1, 8, 2) if rng.integers(3) == 0 else rng.integers(1, 8, 1).repeat(2))
    )
    dilation = int(rng.choice([1, 1, 2]))
    stride = int(rng.choice([1, 1, 1, 2]))
    padding: tuple[int, int] | str = (dilation * (rows // 2), dilation * (columns // 2))
    if stride == 1 and rng.integers(3) == 0:
        padding = "same"
    groups = int(rng.choice([1, 1, 4])) if channels % 4 == 0 else 1
    return nn.Conv2d(channels, wide, (rows, columns), stride, padding, dilation, groups, bias=bool(rng.integers(2)))


def _norm(channels: int, rng: np.random.Generator) -> nn.BatchNorm2d:
    """Statistics of a trained network: γ of both signs, zero and tiny."""
    norm = nn.BatchNorm2d(channels)
    gamma = rng.normal(1, 0.7, channels)
    gamma[rng.integers(channels)] = rng.choice([0.0, 1e-12, -1e-12, -1e-6, -0.8])
    values = {"weight": gamma, "running_var": rng.uniform(0.3, 2, channels)}
    values |= {name: rng.normal(0, 0.3, channels) for name in ("bias", "running_mean")}
    with torch.no_grad():
        for name, value in values.items():
            getattr(norm, name).copy_(torch.from_numpy(value))
    return norm


class Network(nn.Module):
    def __init__(self, spec: Spec) -> None:
        super().__init__()
        rng = np.random.default_rng(spec.seed)
        self.stem = nn.Conv2d(3, 8, 3, stride=int(rng.choice([1, 2])), padding=1)
        blocks, channels = [], 8
        for kind in spec.blocks:
            blocks.append(Block(kind, channels, rng))
            channels = blocks[-1].out
        self.blocks, self.head = nn.Sequential(*blocks), nn.Linear(channels, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def build(spec: Spec) -> tuple[nn.Module, torch.Tensor]:
    """A prepared, initialized model whose offsets are as the spec says, and inputs [16, 3, 12, 12]."""
    torch.manual_seed(spec.seed)
    rng = np.random.default_rng(spec.seed + 1)
    config = lsq_export.QATConfig(
        weight_bits=4 if isinstance(spec.bits, str) else spec.bits,
        activation_bits=4 if isinstance(spec.bits, str) else spec.bits,
        activation_grid=spec.grid,  # type: ignore[arg-type]
        weight_granularity=spec.granularity,  # type: ignore[arg-type]
        first_last_bits=spec.first_last_bits,
        offset=spec.offset,  # type: ignore[arg-type]
        edges=spec.edges,  # type: ignore[arg-type]
    )
    model = lsq_export.prepare(Network(spec).eval(), config)
    x = torch.from_numpy(rng.normal(0, 1.5, (16, 3, 12, 12)).astype(np.float32))
    if spec.bits == "mixed":
        _mix_bits(model, rng)
    calib.initialize(model, [x], method="minmax")
    for quantizer in lsq_export.quantizers(model).values():
        learned = (
            isinstance(quantizer, Quantizer)
            and quantizer.kind == "activation"
            and not quantizer.name.startswith("edges.")
        )
        if learned and not quantizer.symmetric and spec.offsets != "learned":
            scale, levels = float(quantizer.scale.detach()), quantizer.qmax - quantizer.qmin
            choices = {
                "negative": -rng.uniform(0, levels),
                "zero": 0.0,
                "positive": rng.uniform(0, 1.5),
                "beyond": -levels - rng.uniform(0, 3),
            }
            steps = choices[spec.offsets]
            quantizer.set_grid(scale, scale * (steps - quantizer.qmin))
    return model, x


def _mix_bits(model: nn.Module, rng: np.random.Generator) -> None:
    """2 to 8 bits for each input and each weight by itself."""
    for quantizer in lsq_export.quantizers(model).values():
        if not quantizer.name.startswith("edges."):
            quantizer.bits = int(rng.integers(2, 9))
            quantizer.qmin, quantizer.qmax = code_range(quantizer.bits, signed=quantizer.qmin < 0)
