"""Scales stay positive after every step, in copies, in eval and in what is saved."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import calib
import lsq_export
from calib.quantized import Quantized


def ready() -> nn.Module:
    torch.manual_seed(0)
    model = lsq_export.prepare(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)))
    calib.initialize(model, [torch.randn(16, 4)], method="minmax")
    return model


def scales(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: q.scale.detach().clone() for name, q in lsq_export.quantizers(model).items()}


def driven_down(model: nn.Module, make: Callable[[Any], torch.optim.Optimizer]) -> None:
    """One step that would make every scale negative."""
    optimizer = make(model.parameters())
    for q in lsq_export.quantizers(model).values():
        q.scale.grad = torch.full_like(q.scale, 1e3)
    optimizer.step()


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, 1.0),
    "fused": lambda p: torch.optim.SGD(p, 1.0, fused=True),
    "adam": lambda p: torch.optim.AdamW(p, 10.0),
    "groups": lambda p: torch.optim.RMSprop([{"params": [x]} for x in p], 10.0),
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("copied", [False, True])
def test_after_a_step_of_any_optimizer(make: Callable[[Any], torch.optim.Optimizer], copied: bool) -> None:
    model = copy.deepcopy(ready()) if copied else ready()
    driven_down(model, make)
    for q in lsq_export.quantizers(model).values():
        assert torch.equal(q.scale, q.floor) and bool((q.scale > 0).all()), q.name


def test_without_the_projection_they_would_be_negative(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ready()
    monkeypatch.setattr(Quantized, "project", lambda self: None)
    driven_down(model, OPTIMIZERS["sgd"])
    assert all(bool((scale < 0).all()) for scale in scales(model).values())


def test_a_scale_that_an_optimizer_gets_later_is_watched_as_well() -> None:
    model, later = ready(), ready()
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    optimizer.step()
    optimizer.add_param_group({"params": list(later.parameters())})
    for q in lsq_export.quantizers(later).values():
        q.scale.grad = torch.full_like(q.scale, 1e3)
    optimizer.step()
    assert all(torch.equal(q.scale, q.floor) for q in lsq_export.quantizers(later).values())


def test_what_is_in_range_and_what_is_no_parameter_of_the_optimizer_stays() -> None:
    model, other = ready(), ready()
    before = scales(model)
    with torch.no_grad():
        for q in lsq_export.quantizers(other).values():
            q.scale.fill_(-1.0)
    torch.optim.SGD(model.parameters(), 1.0).step()  # no gradients
    assert all(torch.equal(scale, before[name]) for name, scale in scales(model).items())
    assert all(float(scale) == -1 for scale in scales(other).values())


def test_saved_scales_are_positive_and_the_network_stays_the_same() -> None:
    """A step that was written by hand can leave anything; eval takes it for floor."""
    model = ready().eval()
    x = torch.randn(5, 4)
    with torch.no_grad():
        for q in lsq_export.quantizers(model).values():
            q.scale.sub_(1e3)
        before = model(x)
        state = model.state_dict()
        assert all((value > 0).all() for name, value in state.items() if name.endswith("scale"))
        assert torch.equal(model(x), before)
    fresh = ready()
    fresh.load_state_dict(state)
    assert torch.equal(fresh.eval()(x), before)
