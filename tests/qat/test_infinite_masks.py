"""infinite_masks: masks of minus infinity get no grid on their way to a softmax."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

import calib
import lsq_export


class Masked(nn.Module):
    """As torch's own encoder has it: padding becomes a mask of numbers, which is moved and added to the scores."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.head = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
        mask = torch.zeros_like(padding, dtype=torch.float32).masked_fill_(padding, -torch.inf)
        scores = self.q(x) @ self.k(x).transpose(1, 2) + mask[:, None, :]
        return self.head(torch.softmax(scores, -1) @ self.v(x))


def test_a_mask_from_an_input_has_no_grid(tmp_path: Path) -> None:
    torch.manual_seed(0)
    batch = {"x": torch.randn(16, 6, 8), "padding": torch.arange(6).expand(16, 6) > torch.randint(2, 6, (16, 1))}
    model = lsq_export.prepare(Masked(), lsq_export.QATConfig(weight_bits=8, activation_bits=8))
    names = list(lsq_export.quantizers(model))
    assert any(name.startswith("edges.") for name in names)
    assert not any("fill" in name or "getitem" in name for name in names)
    calib.initialize(model, [batch], "minmax")
    one = {name: tensor[:1] for name, tensor in batch.items()}
    bundle = lsq_export.export(model.eval(), one, tmp_path / "out", calibration=[batch])
    assert bundle.parity is not None and bundle.parity.ok, bundle.parity
    assert bundle.parity.folded_sqnr_db > 40
