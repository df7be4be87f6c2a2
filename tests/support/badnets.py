"""Networks for 1 x 16 x 16 images that `export` cannot take, or only just;

`--model badnets:<name>` finds them as a user's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

Middle = Callable[[Any, torch.Tensor], torch.Tensor]


class Net(nn.Module):
    """conv, something in the middle ([N, 4, 8, 8] -> [N, 4, 8, 8]), linear."""

    def __init__(self, middle: Middle, **modules: nn.Module) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.block = Block(middle, **modules)
        self.last = nn.Linear(4 * 8 * 8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.flatten(self.block(self.first(x)), 1))


class Block(nn.Module):
    def __init__(self, middle: Middle, **modules: nn.Module) -> None:
        super().__init__()
        self._middle = middle
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._middle(self, x)


def plain() -> nn.Module:
    """Nothing wrong with this one."""
    return Net(
        lambda self, x: F.relu(self.norm(self.conv(x))),
        conv=nn.Conv2d(4, 4, 3, padding=1, bias=False),
        norm=nn.BatchNorm2d(4),
    )


def cumulated() -> nn.Module:
    return Net(lambda self, x: x.cumsum(2))


def interpolate() -> nn.Module:
    return Net(lambda self, x: F.interpolate(x[:, :, ::2, ::2], scale_factor=2.0))


def bilinear() -> nn.Module:
    return Net(lambda self, x: F.interpolate(F.max_pool2d(x, 2), scale_factor=1.5, mode="bilinear"))


def compared() -> nn.Module:
    return Net(lambda self, x: torch.where(x > 0, x, x * x))


def functional_conv() -> nn.Module:
    """A weight that is a parameter of a module of the user's own."""
    filters = nn.Conv2d(4, 4, 3, padding=1)
    own = nn.ParameterDict({"filters": nn.Parameter(filters.weight.detach().clone())})
    return Net(lambda self, x: F.conv2d(x, self.own["filters"], padding=1), own=own)


def branch_on_values() -> nn.Module:
    return Net(lambda self, x: x if x.sum() > 0 else -x)


def circular() -> nn.Module:
    """`prepare` refuses this one."""
    return Net(lambda self, x: self.round(x), round=nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"))


def no_layers() -> nn.Module:
    return nn.Sequential(nn.ReLU(), nn.Flatten())
