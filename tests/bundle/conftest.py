"""A network that is quick to export."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import calib
import lsq_export
from support.badnets import plain
from support.exported import images
from support.published import published


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """Two layers: quick to export."""
    torch.manual_seed(0)
    model = lsq_export.prepare(plain().eval(), published())
    calib.initialize(model, [images(seed=0)[0]], method="minmax")
    return model
