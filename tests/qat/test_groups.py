"""parameter_groups: what decays, and the rates of grids."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import lsq_export
from calib.errors import QuantizationError


def test_every_parameter_is_in_one_group_with_its_rate() -> None:
    model = lsq_export.prepare(nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2)))
    groups = lsq_export.parameter_groups(model, 0.1, weight_decay=0.5, grid_lr=0.2, offset_lr=0.3)
    weights, rest, scales, offsets = groups
    assert [group["lr"] for group in groups] == pytest.approx([0.1, 0.1, 0.02, 0.03])
    assert [group["weight_decay"] for group in groups] == [0.5, 0, 0, 0]
    assert {id(p) for p in scales["params"]} == {id(q.scale) for q in lsq_export.quantizers(model).values()}
    assert all(p.ndim > 1 for p in weights["params"]) and all(p.ndim <= 1 for p in rest["params"])
    counted = [id(p) for group in groups for p in group["params"]]
    assert sorted(counted) == sorted(id(p) for p in model.parameters() if p.requires_grad) and offsets["params"]
    torch.optim.SGD(groups, lr=0.1, momentum=0.9)


def test_offsets_have_the_rate_of_scales_unless_said() -> None:
    model = lsq_export.prepare(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)))
    *_, scales, offsets = lsq_export.parameter_groups(model, 1.0, grid_lr=0.25)
    assert scales["lr"] == offsets["lr"] == 0.25


def test_nothing_to_train_is_said() -> None:
    with pytest.raises(QuantizationError, match="no parameters to train"):
        lsq_export.parameter_groups(nn.Linear(2, 2).requires_grad_(False), 0.1)
