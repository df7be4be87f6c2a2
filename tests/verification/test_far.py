"""lsq_export/verification/far.py: a network far below the yardstick says so, and where, in every form of verdict."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import calib
import lsq_export
from calib.errors import ParityWarning
from lsq_export.bundle.schema import check as check_schema
from lsq_export.verification.far import AT_THE_END, LIMIT, far_of
from lsq_export.verification.reasons import Reason
from support.parities import format_parity, layer, parity_of

WORST = replace(layer(400_000, 3), name="edges.pool", reasons={Reason.TIE: 9, Reason.EDGE: 11})
OTHER = replace(layer(10, 1), name="conv.input", reasons={Reason.TIE: 10})


@pytest.mark.parametrize(
    ("folded", "nudged", "far"),
    [(15.0, 64.0, True), (61.0, 64.0, False), (60.9, 64.0, True), (70.0, 64.0, False), (15.0, LIMIT + 1, False)],
)
def test_far_is_more_than_three_decibel_below_a_yardstick_that_tells_something(
    folded: float, nudged: float, far: bool
) -> None:
    assert (far_of(folded, nudged, (), {}) is not None) is far
    assert far_of(math.inf, nudged, (), {}) is None and far_of(folded, math.inf, (), {}) is None


def test_the_verdict_names_the_worst_tensor_its_place_and_the_reason() -> None:
    parity = parity_of(
        format_parity(),
        folded_sqnr_db=15.0,
        nudged_sqnr_db=64.0,
        trained_layers=(OTHER, WORST),
        places={"edges.pool": "output of pool (LPPool2d)"},
    )
    assert parity.ok
    assert parity.verdict == (
        "all promises hold; FAR FROM EXACT, 49.0 dB behind the yardstick; most at edges.pool, output of pool (LPPool2d)"
        " (40% of codes differ, by 3 at most; an 8-bit grid before it that training did not have)"
    )
    assert parity.to_dict()["far"] == {
        "behind_db": 49.0,
        "tensor": "edges.pool",
        "place": "output of pool (LPPool2d)",
        "differing": 0.4,
        "largest": 3,
        "reason": "edge",
    }
    near = replace(parity, folded_sqnr_db=63.0)
    assert near.verdict == "all promises hold" and near.to_dict()["far"] is None


def test_an_error_below_what_8_bits_cost_is_no_matter_for_the_verdict() -> None:
    """A W8A8 network hardly moves with its inputs: each grid of 8 bits that export adds is far behind its yardstick."""
    parity = parity_of(
        format_parity(), folded_sqnr_db=30.0, nudged_sqnr_db=53.0, trained_layers=(WORST,), grids="calibrated"
    )
    assert parity.told().verdict == "all promises hold"  # warnings are errors
    assert parity.to_dict()["far"]["behind_db"] == 23.0
    more = replace(parity, folded_sqnr_db=29.9)
    assert more.verdict == (
        "all promises hold; FAR FROM EXACT, 23.1 dB behind the yardstick; most at edges.pool (40% of codes differ, by "
        "3 at most; an 8-bit grid before it that the calibrated network did not have)"
    )
    with pytest.warns(ParityWarning, match="FAR FROM EXACT, 23.1"):
        more.told()


def test_where_all_codes_are_the_trained_ones_it_is_what_comes_after_them() -> None:
    parity = parity_of(format_parity(), folded_sqnr_db=15.0, nudged_sqnr_db=64.0, trained_layers=(layer(0, 0),))
    assert parity.verdict.endswith(f"most at {AT_THE_END.format('learned')}")
    assert parity.to_dict()["far"]["tensor"] is None


class Roots(nn.Module):
    """A pooling by the power 1/3, whose values near 0 no 8-bit grid holds."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x).relu().pow(3.0).mean((2, 3)) * 1e-3
        return self.fc(y.pow(1 / 3))


def test_of_a_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(16, 3, 8, 8)
    model = lsq_export.prepare(Roots(), lsq_export.QATConfig(weight_bits=8, activation_bits=8, edges="calibrated"))
    calib.initialize(model, [x])
    bundle = lsq_export.export(model.eval(), x[:1], tmp_path / "out", calibration=[x])
    assert bundle.parity is not None
    assert bundle.parity.verdict == "all promises hold"  # 69 dB
    plain = lsq_export.verify(model, bundle, [x]).to_dict()
    check_schema("parity", plain)
    assert plain["ok"] and plain["far"]["tensor"] == "fc.input" and plain["far"]["behind_db"] > 3
