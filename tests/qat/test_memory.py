"""qat.memory: the same gradients to the bit, x̂ is really made again, and it can be switched off."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from lsq_export.qat import memory, save_memory
from lsq_export.qat.kernels import values
from lsq_export.qat.prepare_model import QATConfig, prepare, quantizers


def net(granularity: str = "tensor") -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)
    )
    model = prepare(layers, QATConfig(weight_granularity=granularity))
    for quantizer in quantizers(model).values():
        quantizer.set_grid(0.05)
    return model


def gradients(model: nn.Module, dtype: torch.dtype | None = None) -> list[torch.Tensor | None]:
    x = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        y = model(x)
    y.float().square().sum().backward()
    return [p.grad for p in model.parameters()]


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_gradients_are_the_same_to_the_bit(granularity: Any, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(memory, "values", lambda *recipe: made.append(recipe) or values(*recipe))
    for ours, theirs in zip(
        gradients(save_memory(net(granularity)), dtype), gradients(net(granularity), dtype), strict=True
    ):
        assert (ours is None and theirs is None) or torch.equal(ours, theirs)
    # both tensors of three layers; autocast puts a cast after the quantizers of float32 tensors (weights, the image),
    # which layers keep as in float
    assert len(made) == (6 if dtype is None else 2)


def test_it_can_be_switched_off_also_in_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "values", None)
    model = copy.deepcopy(save_memory(net()))
    with pytest.raises(TypeError):
        gradients(model)
    gradients(save_memory(model, on=False))


def test_a_forward_that_fails_leaves_no_hook_behind() -> None:
    model = save_memory(net())
    with pytest.raises(RuntimeError):
        model(torch.randn(3, 2, 8, 8))
    x = torch.ones(2, requires_grad=True)
    assert torch.equal((x * x).grad_fn._saved_self, x)
    gradients(model)


def test_no_gradients_no_hooks() -> None:
    with torch.no_grad():
        save_memory(net())(torch.randn(3, 3, 8, 8))
