"""qat.rounded_constants: training sees constants on the 8 bits that integers have, and the fold rounds nothing more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import calib
import lsq_export
from lsq_export.qat import rounded_constants
from lsq_export.qat.rounded_constants import round_constant
from lsq_export.verification.reasons import Reason

EIGHT = lsq_export.QATConfig(weight_bits=8, activation_bits=8)


def numbers(count: int, seed: int = 0, low: float = -2.0, high: float = 3.0) -> torch.Tensor:
    return torch.empty(count).uniform_(low, high, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("low", "high"), [(-2.0, 3.0), (0.5, 4.0), (-7.0, -1.0), (-1e-6, 1e-6)])
def test_numbers_are_multiples_of_a_step_zero_among_them(low: float, high: float) -> None:
    x = numbers(1000, 1, low, high).double()
    step = (max(float(x.max()), 0.0) - min(float(x.min()), 0.0)) / 255
    codes = (round_constant(x) / step).numpy()
    np.testing.assert_allclose(codes, np.rint(codes), atol=1e-9)
    assert np.ptp(np.rint([*codes.tolist(), 0.0])) <= 255
    assert float((round_constant(x) - x).abs().max()) <= step * (0.5 + 1e-9)


def test_what_is_rounded_once_stays() -> None:
    once = round_constant(numbers(100))
    torch.testing.assert_close(round_constant(once), once, rtol=0, atol=1e-6)
    assert torch.equal(round_constant(torch.zeros(5)), torch.zeros(5))


def test_a_number_and_integers_are_exact_anyway() -> None:
    for x in (torch.tensor([0.3]), torch.tensor(0.3), torch.arange(5)):
        assert round_constant(x) is x


def test_gradients_go_straight_through() -> None:
    x = numbers(50).requires_grad_()
    (round_constant(x) * torch.arange(50.0)).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.arange(50.0))


class Turned(nn.Module):
    """Positions are added, and what follows is turned by angles, as in a transformer."""

    angles: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 4)
        self.positions, self.weight = nn.Parameter(torch.randn(1, 9, 8)), nn.Parameter(torch.rand(8) + 0.5)
        self.register_buffer("angles", torch.rand(5, 8) * 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x) + self.positions[:, : x.shape[1]]
        y = y * self.angles.cos() + 0.5
        y = torch.atan(y) * self.weight
        return self.last(y)


def reasons(folder: Path) -> tuple[set[str], set[Reason]]:
    """(names of the constants that are rounded, why codes differ from the trained ones)"""
    x = torch.randn(64, 5, 6, generator=torch.Generator().manual_seed(1))
    model = lsq_export.prepare(Turned(), EIGHT)
    rounded = {str(node.all_input_nodes[0]) for node in model.graph.nodes if node.target is round_constant}
    calib.initialize(model, [x], "minmax")
    bundle = lsq_export.export(model.eval(), x[:1], folder, calibration=[x])
    assert bundle.parity is not None and bundle.parity.ok, bundle.parity
    return rounded, {reason for layer in bundle.parity.trained_layers for reason in layer.reasons}


def test_the_fold_has_the_constants_of_training(tmp_path: Path) -> None:
    rounded, found = reasons(tmp_path / "out")
    assert len(rounded) == 2 and "positions" in rounded and "weight" not in rounded  # what follows atan is float
    assert Reason.UNKNOWN not in found


def test_codes_differ_where_training_has_them_in_float(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounded_constants, "READERS", frozenset())
    assert Reason.UNKNOWN in reasons(tmp_path / "out")[1]


@pytest.mark.parametrize("how", ["repeat", "tile", "broadcast_to"])
def test_a_constant_that_is_repeated_for_the_batch_is_rounded_before(how: str, tmp_path: Path) -> None:
    """Otherwise the file would look for its range while it runs."""

    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 3)
            self.register_buffer("shift", torch.linspace(-1, 2, 6)[None])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            size = x.size(0)
            many = self.shift.broadcast_to(size, 6) if how == "broadcast_to" else getattr(self.shift, how)((size, 1))
            return self.b(torch.relu(self.a(x) + many))

    torch.manual_seed(0)
    batches = [torch.randn(8, 6) for _ in range(2)]
    model = lsq_export.prepare(Shifted(), lsq_export.QATConfig(edges="trained"))
    calib.initialize(model, batches)
    bundle = lsq_export.export(model.eval(), batches[0], tmp_path / "out", calibration=batches, formats=["qdq"])
    assert bundle.parity is not None and bundle.parity.ok
    assert {island["operator"] for island in bundle.manifest.get("islands", [])} <= {"Tile", "Expand"}
