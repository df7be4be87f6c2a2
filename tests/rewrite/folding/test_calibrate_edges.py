"""Grids of edges from calibration data: where values gather, and how observers are fed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from calib.folding.edge_grid import TANH, EdgeGrid
from calib.statistics.observers import Observer
from lsq_export.rewrite.folding import calibrate_edges
from support.networks import Case, Wired, folded

EIGHT = {"weight_bits": 8, "activation_bits": 8}


@pytest.mark.parametrize("function", [torch.erf, torch.sin, torch.cos])
def test_one_and_minus_one_are_codes_where_values_gather(function: Any) -> None:
    """On the grid of the range, erf(x) -> 1 ends at 254.5007 codes: next to that tie float32 rounds as it likes."""

    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        h = s.first(x)
        return s.last(h * (function(4 * h) + 1.0))

    case = Case(lambda: Wired(forward, first=nn.Conv2d(3, 4, 1), last=nn.Conv2d(4, 2, 1)), EIGHT)
    scales = [d.scale for d in folded(case).tensors if d.kind == "edge"]
    assert float(np.float32(TANH.scale)) in scales


def test_a_grid_becomes_no_finer_and_hardly_coarser() -> None:
    for scale in np.geomspace(1 / 4096, 1 / 16, 50):
        grid = calibrate_edges._ones_on_codes(EdgeGrid(float(scale), 10, 0.0))
        assert abs(1 / grid.scale - round(1 / grid.scale)) < 1e-3 and scale * (1 - 1e-6) <= grid.scale < scale * 17 / 16
    coarse = EdgeGrid(0.3, 10, 0.0)
    assert calibrate_edges._ones_on_codes(coarse) == coarse


@pytest.mark.parametrize("most", [1, 5, 1000])
def test_observers_see_all_that_waits_for_them_in_order(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate_edges, "WAITING", most)
    seen: dict[str, list[float]] = {"a": [], "b": []}

    class Noting(Observer):
        def update(self, x: torch.Tensor) -> None:
            seen[self.name].extend(x.tolist())

    waiting = calibrate_edges._Waiting(lambda jobs: [job() for job in jobs])
    observers = Noting("a"), Noting("b")
    for number in range(9):
        waiting.add(observers[number % 2], torch.tensor([float(number)]))
    waiting.update()
    assert seen == {"a": [0, 2, 4, 6, 8], "b": [1, 3, 5, 7]}
