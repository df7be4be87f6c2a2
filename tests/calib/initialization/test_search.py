"""mse: the grid that is found against brute force on every sample, through the streaming observer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from calib.initialization import rules
from calib.initialization.objective import Candidates, Objective
from calib.initialization.rules import activation_grid
from calib.initialization.search import _coarse, _settle, best_grid
from calib.statistics.observers import Observer, Points
from lsq_export.qat.config import ACTIVATION_GRIDS, ActivationGrid
from lsq_export.qat.quantizer import Quantizer
from support.brute_force import floor, smallest_error, squared_error

COUNT, BATCHES = 6000, 12  # more samples than points, so that what the observer merges counts


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def samples(kind: str, n: int = COUNT) -> np.ndarray:
    """float32 values as float64, in random order."""
    make = {
        "gaussian": lambda: rng(0).normal(0.4, 1.3, size=n),
        "relu": lambda: np.maximum(rng(1).normal(size=n), 0),
        "silu": lambda: (lambda x: x / (1 + np.exp(-x)))(2 * rng(2).normal(size=n)),
        "heavy tail": lambda: rng(3).standard_t(2, size=n),
        "lighter tail": lambda: rng(4).standard_t(3, size=n),
        "one-sided": lambda: rng(5).exponential(size=n) + 2,
        "constant": lambda: np.full(n, 0.73),
        "bimodal": lambda: np.where(rng(6).random(n) > 0.3, 1, -1) + 0.02 * rng(7).normal(size=n),
        "two scales": lambda: np.where(rng(8).random(n) > 0.7, 10, 0.1) * rng(9).normal(size=n),
        "few values": lambda: rng(10).choice([0.0, 1, 2, 5, 9], size=n),
        "few, signed": lambda: rng(10).choice([-1.7, -0.4, 0, 0.3, 2.9], size=n),
        "pixels": lambda: (rng(11).integers(0, 201, size=n) / 255 - 0.45) / 0.22,
        "outlier": lambda: rng(12).permutation(np.append(rng(12).normal(size=n - 1), 1000.0)),
        "far from zero": lambda: rng(13).normal(100, 0.1, size=n),
        "half heavy tail": lambda: np.maximum(rng(14).standard_t(2, size=n), 0),
    }[kind]
    return make().astype(np.float32).astype(np.float64)


NAMED = ("gaussian", "relu", "silu", "heavy tail", "constant", "one-sided")
MORE = (
    "lighter tail",
    "bimodal",
    "two scales",
    "few values",
    "few, signed",
    "pixels",
    "outlier",
    "far from zero",
    "half heavy tail",
)
GRIDS: dict[str, tuple[ActivationGrid, str]] = {
    "real": ("unsigned-asymmetric", "real"),
    "integer": ("unsigned-asymmetric", "integer"),
    "none": ("signed-symmetric", "none"),
    "none, from 0": ("unsigned-symmetric", "none"),
}


def observed(x: np.ndarray, batches: int = BATCHES) -> Observer:
    observer = Observer("a.input")
    for part in np.array_split(x.astype(np.float32), batches):
        observer.update(torch.from_numpy(part))
    return observer


def check(x: np.ndarray, bits: int, how: str) -> None:
    """The error of the grid that a quantizer gets, on the raw samples, is at most 1.01 of brute force's."""
    grid, rule = GRIDS[how]
    quantizer = Quantizer.activation("a.input", bits, grid=grid, integer_offset=rule == "integer")
    quantizer.set_grid(*activation_grid(quantizer, observed(x), "mse"))
    s, b = float(quantizer.scale.detach()), float(quantizer.effective_offset.detach())
    found, best = (
        squared_error(x, s, b, quantizer.qmin, quantizer.qmax),
        smallest_error(x, quantizer.qmin, quantizer.qmax, rule),
    )
    assert found <= max(1.01 * best, floor(x)), f"{found / best:.4f} of brute force, s={s}, β={b}"


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("kind", NAMED)
def test_mse_reaches_brute_force(kind: str, bits: int) -> None:
    check(samples(kind), bits, "real")


@pytest.mark.parametrize("how", ["integer", "none", "none, from 0"])
@pytest.mark.parametrize("kind", ["silu", "heavy tail", "few, signed"])
def test_mse_with_less_freedom_reaches_brute_force(kind: str, how: str) -> None:
    check(samples(kind), 3, how)


@pytest.mark.slow
@pytest.mark.parametrize("how", GRIDS)
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("kind", NAMED + MORE)
def test_every_cell_reaches_brute_force(kind: str, bits: int, how: str) -> None:
    check(samples(kind), bits, how)


def test_the_check_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scales of 1.05 times the best: an error of more than 1.01."""
    monkeypatch.setattr(rules, "best_grid", lambda *arguments: (lambda s, b: (1.05 * s, b))(*best_grid(*arguments)))
    with pytest.raises(AssertionError, match="of brute force"):
        check(samples("gaussian"), 3, "real")


@pytest.mark.parametrize("seed", range(12))
def test_few_random_values(seed: int) -> None:
    """Many narrow valleys: each value on another code."""
    values = np.unique(rng(seed).normal(size=rng(seed).integers(3, 10)))
    counts = rng(seed + 1).integers(1, 20, size=len(values))
    x = np.repeat(values, counts)
    for rule in ("real", "integer"):
        s, b = best_grid(Points(values, counts.astype(np.float64)), 0, 7, rule)
        assert squared_error(x, s, b, 0, 7) <= max(1.01 * smallest_error(x, 0, 7, rule), floor(x))


def test_an_outlier_among_millions_costs_nothing() -> None:
    """Clipping it is best there, with a step far below what the outlier would ask for.

    The 4096 points do as well as the 2 million samples.
    """
    x = np.append(rng(0).normal(size=(1 << 18) - 1), 200.0).astype(np.float32).astype(np.float64)
    seen = observed(x, batches=3)
    s, b = best_grid(seen.points(), 0, 255, "real")
    found = squared_error(x, s, b, 0, 255)
    assert 255 * s < 0.75 * (x.max() - x.min())
    assert found <= 1.0005 * squared_error(x, *best_grid(Points(np.sort(x), np.ones(x.size)), 0, 255, "real"), 0, 255)
    assert seen.loss / seen.count < 1e-3 * found


def test_more_than_one_valley() -> None:
    """Heavy tails: Adam from the best clipping range alone ends 9 % above the optimum."""
    x = rng(3).standard_t(1.8, size=4000)
    s, b = best_grid(Points(np.sort(x), np.ones(x.size)), 0, 3, "real")
    assert squared_error(x, s, b, 0, 3) <= 1.01 * smallest_error(x, 0, 3, "real")


@pytest.mark.parametrize("grid", ACTIVATION_GRIDS)
def test_mse_is_never_worse_than_the_closed_forms(grid: ActivationGrid) -> None:
    for kind in NAMED + MORE:
        x = samples(kind, 3000)
        quantizer, seen = Quantizer.activation("a.input", 3, grid=grid), observed(x)
        errors = {
            m: squared_error(x, *activation_grid(quantizer, seen, m), quantizer.qmin, quantizer.qmax)
            for m in ("minmax", "lsq", "mse")
        }
        assert errors["mse"] <= max((1 + 1e-9) * min(errors.values()), floor(x))


@pytest.mark.parametrize("rule", ["real", "integer"])
def test_candidates_that_settle_side_by_side_end_where_each_ends_alone(rule: Any) -> None:
    objective = Objective(observed(samples("silu")).points(), 0, 15, rule)
    starts = objective.best(_coarse(objective), 60)
    alone = [_settle(objective, Candidates(starts.scale[i : i + 1], starts.offset[i : i + 1])) for i in range(60)]
    together, better = _settle(objective, starts), objective.error(starts)
    assert together.scale == pytest.approx([c.scale[0] for c in alone], rel=1e-9)
    assert together.offset == pytest.approx([c.offset[0] for c in alone], rel=1e-9, abs=1e-12)
    assert (objective.error(together) <= better).all() and (objective.error(together) < better).any()
