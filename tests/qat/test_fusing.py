"""qat.fuse: a choice that each quantizer holds, of one model, and that can be taken back."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from lsq_export.qat import fuse, kernels
from lsq_export.qat.kernels import Kernels
from lsq_export.qat.prepare_model import prepare, quantizers


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kernels that are called, in place of compiled ones: the same functions, not compiled."""
    names: list[str] = []

    def counted(name: str) -> Any:
        kernel = getattr(kernels, name)
        return lambda *arguments: names.append(name) or kernel(*arguments)

    fused = counted("_values"), counted("_gradients")
    monkeypatch.setattr(kernels, "fused_kernels", lambda: fused)
    monkeypatch.setattr(kernels, "FUSED_FROM", 0)
    return names


def net() -> nn.Module:
    torch.manual_seed(0)
    model = prepare(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 5)))
    for quantizer in quantizers(model).values():
        quantizer.set_grid(0.05)
    return model


def chosen(model: nn.Module) -> set[Kernels]:
    return {quantizer.kernels for quantizer in quantizers(model).values()}


def gradients(model: nn.Module) -> list[torch.Tensor | None]:
    x = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    model(x).square().sum().backward()
    return [parameter.grad for parameter in model.parameters()]


def test_one_model_is_fused_and_no_other(calls: list[str]) -> None:
    model, other = net(), net()
    assert fuse(model) is model and chosen(model) == {Kernels.FUSED} and chosen(other) == {Kernels.BLOCKS}
    plain = gradients(other)
    assert not calls
    for ours, theirs in zip(gradients(model), plain, strict=True):
        assert (ours is None and theirs is None) or torch.equal(ours, theirs)
    assert set(calls) == {"_values", "_gradients"}


def test_a_copy_keeps_the_choice_and_it_can_be_taken_back(calls: list[str]) -> None:
    model = fuse(net())
    twin = copy.deepcopy(model)
    assert chosen(fuse(model, on=False)) == {Kernels.BLOCKS} and chosen(twin) == {Kernels.FUSED}
    gradients(model)
    assert not calls
