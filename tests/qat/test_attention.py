"""Attention: the same results as torch's module, made of layers that are quantized."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import lsq_export
from calib.quantized import bypassed
from lsq_export.qat.attention import Attention, open_attention
from support.forms import exact_form
from support.networks import Wired
from support.published import published

CASES: dict[str, dict[str, Any]] = {
    "batch first": {"batch_first": True},
    "batch second": {},
    "other widths": {"kdim": 6, "vdim": 10, "batch_first": True},
    "no biases": {"bias": False, "batch_first": True},
}


@pytest.mark.parametrize("masks", ["none", "bool", "float", "padding", "each head"])
@pytest.mark.parametrize("name", CASES)
def test_it_computes_what_torch_computes(name: str, masks: str) -> None:
    torch.manual_seed(3)
    theirs = nn.MultiheadAttention(8, 2, **CASES[name]).eval()
    ours = open_attention(theirs)
    assert isinstance(ours, Attention) and not ours.training
    q, k, v = torch.randn(2, 5, 8), torch.randn(2, 7, theirs.kdim), torch.randn(2, 7, theirs.vdim)
    if not theirs.batch_first:
        q, k, v = (x.transpose(0, 1) for x in (q, k, v))
    left_out = torch.arange(7) > torch.arange(5)[:, None] + 2
    given: dict[str, Any] = {
        "none": {},
        "bool": {"attn_mask": left_out},
        "float": {"attn_mask": torch.zeros(5, 7).masked_fill(left_out, -torch.inf)},
        "padding": {"key_padding_mask": torch.arange(7) > torch.tensor([[4], [6]])},
        "each head": {"attn_mask": torch.randn(4, 5, 7)},
    }[masks]
    for more in ({}, {"need_weights": False}, {"average_attn_weights": False}):
        for mine, expected in zip(ours(q, k, v, **given, **more), theirs(q, k, v, **given, **more), strict=True):
            assert (mine is None) == (expected is None)
            assert mine is None or torch.allclose(mine, expected, atol=1e-6)


def test_only_what_can_be_opened_is_copied() -> None:
    plain, odd = nn.Sequential(nn.Linear(4, 4)), nn.Sequential(nn.MultiheadAttention(4, 2, add_zero_attn=True))
    assert open_attention(plain) is plain and open_attention(odd) is odd
    tied = nn.ModuleList([nn.MultiheadAttention(4, 2)] * 2)
    opened = open_attention(tied)
    assert isinstance(opened[0], Attention) and opened[0] is opened[1]  # type: ignore[index]
    assert isinstance(tied[0], nn.MultiheadAttention)


def test_an_encoder_layer_of_torch_takes_it() -> None:
    """In float, before grids are used; torch's layer takes no shortcut past its attention."""
    torch.manual_seed(3)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    model = lsq_export.prepare(layer, published())
    names = ["linear1", "linear2", *(f"self_attn.{part}_proj" for part in "qkv"), "self_attn.out_proj"]
    assert sorted(lsq_export.layer_names(layer)) == sorted(names)
    x = torch.randn(2, 5, 8)
    with bypassed(model), torch.no_grad():
        assert torch.allclose(model(x), layer(x), atol=1e-5)


def test_end_to_end() -> None:
    def build() -> nn.Module:
        def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
            t = s.patch(x).flatten(2).transpose(1, 2)
            return s.head((t + s.attention(t, t, t, need_weights=False)[0]).flatten(1))

        attention = nn.MultiheadAttention(8, 2, batch_first=True)
        return Wired(forward, patch=nn.Conv2d(3, 8, 3, stride=3), attention=attention, head=nn.Linear(72, 5))

    operators = exact_form(build, islands_expected=["Softmax"], weight_bits=8, activation_bits=8)
    assert operators.count("QGemm") == 4 and operators.count("QLinearMatMul") == 2
