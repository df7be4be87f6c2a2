"""A few of the digits, in gray and small, and a network on them: for tests of training."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from calib import initialize
from lsq_export import prepare
from lsq_export.data.dataset import Dataset, TensorSplit
from lsq_export.data.loading import load
from support.published import published


def small_digits(count: int) -> Dataset:
    """The first `count` of the train split, 1×16×16."""
    data = load("digits", image_size=16, channels=1)
    x, y = data.train.fetch(torch.arange(count))
    return replace(data, train=TensorSplit(x, y))


def quantized(net: nn.Module, data: Dataset) -> nn.Module:
    """W3A3 with first grids."""
    model = prepare(net, published(weight_bits=3, activation_bits=3))
    initialize(model, data.batches("train", limit=1), method="minmax")
    return model
