"""A softmax on a learned grid is rounded once, onto that grid, and what an island reads of the input is not rounded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import calib
import lsq_export
from lsq_export.rewrite.folding import keep_float


class Attention(nn.Module):
    """A LayerNorm first; the scores have no factor, so that the softmax reads codes."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.q, self.k, self.v = nn.LayerNorm(16), *(nn.Linear(16, 16) for _ in range(3))
        self.head = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(x)
        weights = torch.softmax(self.q(x) @ self.k(x).transpose(1, 2), -1)
        return self.head(weights @ self.v(x))


def exported(bits: int, out: Path) -> lsq_export.Parity:
    torch.manual_seed(0)
    x = torch.randn(64, 8, 16)
    model = lsq_export.prepare(Attention(), lsq_export.QATConfig(weight_bits=bits, activation_bits=bits))
    calib.initialize(model, [x], method="mse")
    return lsq_export.export(model.eval(), x[:1], out, calibration=[x]).parity


@pytest.mark.parametrize("bits", [4, pytest.param(8, marks=pytest.mark.slow)])
def test_all_codes_are_the_trained_ones(bits: int, tmp_path: Path) -> None:
    """But for ties; an edge before a learned grid changed a quarter of the codes after the softmax."""
    parity = exported(bits, tmp_path / "out")
    assert parity.ok, parity.failures
    assert "edges.softmax" in {layer.name for layer in parity.trained_layers}
    for layer in parity.trained_layers:
        assert layer.differing < 1e-3, layer
    assert parity.folded_sqnr_db > 60  # 28.6 at 4 bits and 35.1 at 8 before


@pytest.mark.slow
def test_a_runtime_that_fuses_it_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """QLinearSoftmax multiplies by a whole number, which the learned scale is not the reciprocal of."""
    monkeypatch.setattr(keep_float, "is_reciprocal", lambda scale: True)
    parity = exported(8, tmp_path / "out")
    assert not parity.ok
    assert any("Softmax" in failure or "softmax" in failure for failure in parity.failures), parity.failures
