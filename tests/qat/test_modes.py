"""lsq_export/qat/modes.py: a prepared model computes what the model does in eval mode, in any mode."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

import calib
import lsq_export
from lsq_export.qat.modes import Training, in_eval

TRAINED = lsq_export.QATConfig(weight_bits=8, activation_bits=8, edges="trained")
LINE = "test_modes.py:29"


class Twice(nn.Module):
    """In training, half of it, and another output."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> Any:
        y = torch.relu(self.a(x)).mean((2, 3))
        if self.training:
            return self.b(y * 0.5), y
        return self.b(y)


@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("example", [True, False], ids=["example", "trace"])
def test_the_mode_of_the_model_does_not_matter(mode: bool, example: bool) -> None:
    torch.manual_seed(0)
    net, x = Twice(), torch.randn(4, 3, 6, 6)
    modules = list(net.train(mode).modules())
    with pytest.warns(lsq_export.QuantizationWarning, match=f"branches on self.training \\({LINE}\\)"):
        model = lsq_export.prepare(net, TRAINED, example=x if example else None)
    assert all(module.training is mode for module in modules), "the user's model stays as it was"
    assert model.training is mode and all(layer.training is mode for layer in (model.a, model.b))
    calib.initialize(model, [x])
    found = model.eval()(x)
    assert isinstance(found, torch.Tensor)
    torch.testing.assert_close(found, net.eval()(x), atol=0.05, rtol=0)


class OwnNorm(nn.BatchNorm2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, self.training)


def test_a_function_that_is_told_the_mode_is_not_frozen_in_one() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), OwnNorm(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    with pytest.raises(lsq_export.QuantizationError, match=r"would freeze torch.nn.functional.batch_norm in one mode"):
        lsq_export.prepare(net, TRAINED)
    model = lsq_export.prepare(net, TRAINED, example=torch.randn(2, 3, 6, 6))
    calib.initialize(model, [torch.randn(4, 3, 6, 6)])
    before = model.state_dict()["1.running_mean"].clone()
    model.train()(torch.randn(4, 3, 6, 6))
    assert not torch.equal(before, model.state_dict()["1.running_mean"])


def test_layers_with_a_mode_of_their_own_are_no_branch() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Conv2d(4, 2, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lsq_export.prepare(net, TRAINED)


def test_modes_are_as_before_also_after_an_error() -> None:
    net = nn.Sequential(nn.Dropout(), nn.ReLU().eval())
    with pytest.raises(ZeroDivisionError), in_eval(net, set()):
        assert all(isinstance(module.training, Training) for module in net.modules())
        raise ZeroDivisionError
    assert [module.training for module in net.modules()] == [True, True, False]
