"""qat.equal_scores: of equal elements the one with the lower index comes first, as ONNX's TopK has it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import lsq_export
from calib.quantized import bypassed
from lsq_export.qat.equal_scores import topk
from support.networks import Conv, Wired, inputs


@pytest.mark.parametrize("largest", [True, False])
def test_equal_elements_keep_their_order(largest: bool) -> None:
    x = torch.from_numpy(np.random.default_rng(0).integers(0, 4, (5, 300)).astype(np.float32))
    values, places = topk(x, 40, 1, largest)
    order = np.argsort(-x.numpy() if largest else x.numpy(), axis=1, kind="stable")[:, :40]
    assert np.array_equal(places.numpy(), order)
    assert torch.equal(values, torch.topk(x, 40, 1, largest).values)


def test_a_prepared_model_has_that_order() -> None:
    def forward(s: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        values, places = (s.a(x) > 0).float().flatten(1).topk(20)  # zeros and ones
        return values, places

    torch.manual_seed(0)
    model = lsq_export.prepare(Wired(forward, a=Conv(3, 4, 1)).eval(), {"edges": "trained"})
    with torch.no_grad(), bypassed(model):
        values, places = model(inputs(4, 1))
    for row, at in zip(values, places, strict=True):
        for number in (1.0, 0.0):
            assert (at[row == number].diff() > 0).all()
    assert isinstance(model, nn.Module) and bool((values == 1).any())
