"""lsq_export/qat/places.py: trained edges say where in the user's model they are."""

from __future__ import annotations

import copy

import torch
from torch import nn

import lsq_export
from lsq_export.qat.places import places


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(4, 4, 3, padding=1), nn.Hardswish()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.act(self.conv(x))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.fc = nn.Conv2d(3, 4, 3), Block(), nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.block(torch.relu(self.stem(x)))
        return self.fc(x.mean((2, 3)))


def test_modules_of_the_user_are_named() -> None:
    model = lsq_export.prepare(Net(), {"weight_bits": 4, "activation_bits": 4, "edges": "trained"})
    found = places(copy.deepcopy(model))
    assert found["edges.block_act_hardsigmoid"] == "part of block.act (Hardswish)"
    assert found["edges.block_act_product"] == "part of block.act (Hardswish)"
    assert found["edges.add"] == "add in block (Block)"
    assert found["edges.relu"] == "relu in forward"
    assert places(Net()) == {}
