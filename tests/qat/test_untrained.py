"""lsq_export/qat/untrained.py: where grids come from is known as long as they are the same."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import nn

import lsq_export
from lsq_export.qat.origins import CALIBRATED
from lsq_export.qat.untrained import note_origin, noted_source


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def calibrated(images: torch.Tensor) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4)).eval()
    return lsq_export.calibrate(net, [images])


def test_a_calibrated_model_is_noted_so_also_in_a_copy(calibrated: nn.Module) -> None:
    assert noted_source(calibrated) == noted_source(copy.deepcopy(calibrated)) == {"grids": CALIBRATED}
    assert noted_source(nn.Linear(2, 2)) == {}


def test_a_training_makes_it_void(calibrated: nn.Module, images: torch.Tensor) -> None:
    optimizer = torch.optim.SGD(calibrated.parameters(), lr=1e-3)
    calibrated.train()(images).square().sum().backward()
    optimizer.step()
    assert noted_source(calibrated) == {}
    note_origin(calibrated, CALIBRATED)
    assert noted_source(calibrated) == {"grids": CALIBRATED}


def test_the_bundle_knows_it(calibrated: nn.Module, images: torch.Tensor, tmp_path: Path) -> None:
    bundle = lsq_export.export(calibrated, images[:1], tmp_path / "out", calibration=[images])
    assert bundle.manifest["source"]["grids"] == CALIBRATED and bundle.parity is not None
    assert bundle.parity.grids == CALIBRATED
    assert json.loads((tmp_path / "out" / "parity.json").read_text())["grids"] == CALIBRATED
    assert lsq_export.verify(None, bundle, [images]).grids == CALIBRATED
