"""Which networks there are: `@network(...)` above a function that builds one puts it into NETWORKS.

A network is small, untrained, and wired like the published architecture of its name. `build()` gives it with weights as
after training: every layer keeps the variance of what it reads, and batch norms know their inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

Maker = Callable[[int, torch.Generator], torch.Tensor]  # (batch size, generator) -> one input
Inputs = tuple[torch.Tensor, ...]


@dataclass(frozen=True, kw_only=True)
class Network:
    """One network. recurrent, attention: what it has, and with it how much of it can be integers. batch: of its inputs.

    fixed_batch: it works with this batch size alone.
    """

    name: str
    family: str
    build: Callable[[], nn.Module]
    makers: tuple[Maker, ...]
    recurrent: bool = False
    attention: bool = False
    batch: int = 8

    def inputs(self, seed: int, batch: int | None = None) -> Inputs:
        """Example inputs, one for each argument of `forward`."""
        generator = torch.Generator().manual_seed(seed)
        return tuple(maker(batch or self.batch, generator) for maker in self.makers)

    def model(self, seed: int = 0) -> nn.Module:
        """In eval mode, with weights as after training."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = self.build()
            settle(net, self.inputs(seed + 1))
        return net

    @property
    def integer_share(self) -> float:
        """The share of multiplications that has to be integer."""
        return 0.0 if self.recurrent else 0.8 if self.attention else 0.95


NETWORKS: dict[str, Network] = {}


def network(
    *makers: Maker, recurrent: bool = False, attention: bool = False, batch: int = 8
) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
    """Put the network that the function below builds into NETWORKS, under the function's name."""

    def add(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        name = build.__name__
        assert name not in NETWORKS, name
        NETWORKS[name] = Network(
            name=name,
            family=build.__module__.rpartition(".")[2],
            build=build,
            makers=makers,
            recurrent=recurrent,
            attention=attention,
            batch=batch,
        )
        return build

    return add


def images(channels: int = 3, size: int | Sequence[int] = 32) -> Maker:
    """Smooth with some noise, [N, channels, *size]; a single size is that of a square image."""
    sizes = (size, size) if isinstance(size, int) else tuple(size)

    def make(batch: int, generator: torch.Generator) -> torch.Tensor:
        coarse = torch.randn((batch, channels, *(max(1, s // 4) for s in sizes)), generator=generator)
        smooth = F.interpolate(coarse, size=sizes, mode="nearest")
        return smooth + 0.3 * torch.randn(smooth.shape, generator=generator)

    return make


def series(channels: int, length: int) -> Maker:
    """Signals over time, [N, channels, length]."""
    return images(channels, (length,))


def vectors(*shape: int) -> Maker:
    """Normal numbers, [N, *shape]."""
    return lambda batch, generator: torch.randn((batch, *shape), generator=generator)


def tokens(length: int, vocabulary: int) -> Maker:
    """int64 [N, length]."""
    return lambda batch, generator: torch.randint(vocabulary, (batch, length), generator=generator)


def padding(length: int) -> Maker:
    """bool [N, length]: True where a sequence has ended; each has two elements at least."""

    def make(batch: int, generator: torch.Generator) -> torch.Tensor:
        ends = torch.randint(2, length + 1, (batch, 1), generator=generator)
        return torch.arange(length) >= ends

    return make


def uniform(*shape: int) -> Maker:
    """Numbers from 0 to 1, [N, *shape]."""
    return lambda batch, generator: torch.rand((batch, *shape), generator=generator)


def settle(net: nn.Module, inputs: Inputs) -> None:
    """Weights and statistics as after training, from the global generator; then eval mode."""
    with torch.no_grad():
        for module in net.modules():
            weight = getattr(module, "weight", None)
            if isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)) and weight.requires_grad:
                nn.init.normal_(weight, std=_gain(module))
                if module.bias is not None:
                    module.bias.normal_(std=0.1)
            elif weight is not None and isinstance(
                module, (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)
            ):
                weight.uniform_(0.7, 1.3)
                module.bias.uniform_(-0.2, 0.2)
        net.train()
        for module in net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = None  # the plain mean of all batches
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.eval()
        for _ in range(3):
            net(*inputs)
    net.eval()


def _gain(layer: nn.Module) -> float:
    weight = layer.weight
    if isinstance(layer, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        strides = 1
        for stride in layer.stride:
            strides *= stride
        return float((1.4 * strides / (weight[:, 0].numel())) ** 0.5)
    return float((1.4 / weight[0].numel()) ** 0.5)
