"""calib.rounding.ties: every order of float32 arithmetic rounds a sum as exact arithmetic does.

Before the scale moves, some orders do not.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from calib.rounding.candidates import CANDIDATES, MARGIN
from calib.rounding.fixed_point import Addend, fixed_point_sums
from calib.rounding.ties import (
    SHIFT,
    SHIFTS,
    STRIDE,
    clear_scale,
    clear_shift,
    clear_sum_scale,
    exact_product_scale,
    tie_distance,
)

F = np.float32
LARGEST_MOVE = CANDIDATES / 2 * STRIDE * 1.01
# float32 orders in which kernels compute (a + b) / s, from the steps c - Z of both
ORDERS: list[Callable[[np.ndarray, F, np.ndarray, F, F], np.ndarray]] = [
    lambda a, sa, b, sb, s: (a * sa + b * sb) / s,
    lambda a, sa, b, sb, s: (a * sa + b * sb) * F(1 / s),
    lambda a, sa, b, sb, s: a * F(sa / s) + b * F(sb / s),
    lambda a, sa, b, sb, s: b * sb / s + a * sa / s,
]


def addend(zero_point: int, scale: float) -> Addend:
    return Addend(np.arange(256) - zero_point, float(F(scale)))


def pairs(seed: int) -> tuple[Addend, Addend, float, int]:
    """Two inputs of an Add on grids as calibration finds them, the output's scale and its zero point."""
    rng = np.random.default_rng(seed)
    a, b = (addend(int(rng.integers(0, 256)), np.exp(rng.uniform(-5, 0))) for _ in "ab")
    return a, b, float(F((a.scale + b.scale) * rng.uniform(0.3, 1.1))), int(rng.integers(0, 256))


def disagreements(a: Addend, b: Addend, scale: float, zero_point: int) -> int:
    """Sums that some order of float32 arithmetic, or fixed point, gives another code than exact arithmetic."""
    exact = exact_codes(a, b, scale, zero_point)
    steps_a, steps_b = a.steps.astype(F)[:, None], b.steps.astype(F)[None, :]
    found = [np.rint(order(steps_a, F(a.scale), steps_b, F(b.scale), F(scale))) for order in ORDERS]
    fixed = fixed_point_sums(a, b, scale)
    found += [] if fixed is None else [fixed]
    return sum(int(((codes + zero_point).clip(0, 255) != exact).sum()) for codes in found)


def exact_codes(a: Addend, b: Addend, scale: float, zero_point: int) -> np.ndarray:
    """Every pair, in integers: all scales are multiples of 2^-k."""
    unit = max(Fraction(s).denominator for s in (a.scale, b.scale, scale))
    one, two, out = (int(Fraction(s) * unit) for s in (a.scale, b.scale, scale))
    sums = a.steps.astype(object)[:, None] * one + b.steps.astype(object)[None, :] * two
    floor = sums // out
    twice = 2 * (sums - floor * out)
    codes = floor + ((twice > out) | ((twice == out) & (floor % 2 == 1)))
    return (codes.astype(np.int64) + zero_point).clip(0, 255)


def test_tie_distance() -> None:
    assert tie_distance(np.array([0.0, 1.0, -3.0]), -8, 7) == 0.5
    assert tie_distance(np.array([0.25, 2.4]), -8, 7) == pytest.approx(0.1)
    assert tie_distance(np.array([0.25, 2.5]), -8, 7) == 0
    assert tie_distance(np.array([0.25, -2.6]), -8, 7) == pytest.approx(0.1)
    assert tie_distance(np.array([6.5]), -8, 7) == tie_distance(np.array([-7.5]), -8, 7) == 0
    # Between the last code and what saturates to it there is no tie.
    assert tie_distance(np.array([7.5, 7.0, -8.0, -8.5, 9.5, -12.5]), -8, 7) == 0.5
    assert tie_distance(np.array([]), -8, 7) == 0.5


def test_a_scale_without_ties_stays() -> None:
    values = np.arange(-20, 20) * 0.25
    assert clear_scale(values, 0.25, -100, 100) == 0.25


@pytest.mark.parametrize("seed", range(5))
def test_the_nearest_clear_scale_is_taken(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels, step = int(rng.integers(2, 50)), float(np.exp(rng.uniform(-5, 0)))
    values = np.arange(-5 * pixels, 60 * pixels) * step / pixels  # averages
    scale, low, high = float(F(step * rng.uniform(0.4, 1.5))), -10, 245
    found = clear_scale(values, scale, low, high)
    assert found == F(found) and abs(found / scale - 1) <= LARGEST_MOVE
    assert tie_distance(values / found, low, high) >= MARGIN
    tried = [float(F(scale * (1 + STRIDE * i))) for i in range(-CANDIDATES, CANDIDATES)]
    earlier = [c for c in tried if abs(c - scale) < abs(found - scale) - 1e-7 * scale]
    assert all(tie_distance(values / candidate, low, high) < MARGIN for candidate in earlier)


@pytest.mark.parametrize("seed", range(20))
def test_a_table_keeps_its_codes(seed: int) -> None:
    """A logistic table with a value just above or below a tie.

    The scale moves to the side on which that value's code does not change.
    """
    rng = np.random.default_rng(seed)
    values = 1 / (1 + np.exp(-rng.uniform(0.01, 0.05) * (np.arange(256) - rng.integers(256))))
    index = int(rng.integers(256))
    steps = np.floor(values[index] * 255) + 0.5 + rng.choice([-1, 1]) * 4e-4
    scale = float(F(values[index] / steps))
    assert tie_distance(values / scale, 0, 255) < 1e-3
    found = clear_scale(values, scale, 0, 255, margin=1e-3)
    assert found == F(found) and tie_distance(values / found, 0, 255) >= 1e-3
    clear = [
        c
        for c in (float(F(scale * (1 + i * STRIDE))) for i in range(-4000, 4001))
        if tie_distance(values / c, 0, 255) >= 1e-3
    ]
    assert changed_codes(values, scale, found) == min(
        (changed_codes(values, scale, c) for c in clear), default=changed_codes(values, scale, found)
    )
    assert bool(clear) == (abs(found / scale - 1) < 1.001e-3)
    assert changed_codes(values, scale, float(F(scale * 1.004))) > 10


def changed_codes(values: np.ndarray, before: float, after: float) -> int:
    return int((np.rint(values / before).clip(0, 255) != np.rint(values / after).clip(0, 255)).sum())


def test_where_no_scale_is_clear_the_clearest_is_taken() -> None:
    values = np.arange(0, 2, 9e-5)
    found = clear_scale(values, 1.0, -10, 245)
    assert abs(found - 1) <= LARGEST_MOVE and 0 < tie_distance(values / found, -10, 245) < MARGIN


@pytest.mark.parametrize("seed", range(6))
def test_sums_round_exactly_in_every_order(seed: int) -> None:
    a, b, scale, zero_point = pairs(seed)
    moved = clear_sum_scale(a, b, scale, -zero_point, 255 - zero_point)
    assert moved == F(moved) and abs(moved / scale - 1) <= LARGEST_MOVE
    assert disagreements(a, b, moved, zero_point) == 0


def test_sums_move_by_a_hundredth_of_a_thousandth() -> None:
    """Code 255 then moves by 1/400 of a step: hardly a code differs from those that training saw on this grid."""
    moves = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        a, b = (addend(int(rng.integers(60, 190)), rng.uniform(0.01, 0.1)) for _ in "ab")
        scale, zero_point = float(F(np.hypot(a.scale, b.scale))), int(rng.integers(100, 150))
        moves.append(abs(clear_sum_scale(a, b, scale, -zero_point, 255 - zero_point) / scale - 1))
    assert np.median(moves) < 1e-5 and np.mean(moves) < 1e-5


def test_equal_grids_are_all_ties_until_they_are_moved() -> None:
    a = addend(3, 0.1)
    scale = float(F(0.2))
    assert disagreements(a, a, scale, 128) > 1000  # fixed point rounds ties away from zero
    assert disagreements(a, a, clear_sum_scale(a, a, scale, -128, 127), 128) == 0


def test_some_scales_that_were_not_moved_round_otherwise() -> None:
    assert sum(disagreements(*pairs(seed)) > 0 for seed in range(6)) >= 1


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("seed", range(4))
def test_shifts_round_exactly_in_every_order(seed: int, sign: int) -> None:
    a, _, scale, zero_point = pairs(seed + 10)
    shift = Addend(np.array([sign]), float(F(a.scale * np.random.default_rng(seed).uniform(0.5, 40))))
    low, high = -zero_point, 255 - zero_point
    moved = Addend(shift.steps, clear_shift(a, shift, scale, low, high))
    assert (
        moved.scale == F(moved.scale)
        and abs(moved.scale - shift.scale) <= SHIFTS * SHIFT * max(shift.scale, scale) * 1.01
    )
    assert tie_distance(np.add.outer(a.values, moved.values) / scale, low, high) >= MARGIN
    assert disagreements(a, moved, scale, zero_point) == 0


def test_a_shift_by_half_a_step_is_all_ties_until_it_is_moved() -> None:
    a, half = addend(0, 1.0), Addend(np.array([-1]), 0.5)
    assert disagreements(a, half, 1.0, 0) > 100
    assert disagreements(a, Addend(half.steps, clear_shift(a, half, 1.0, 0, 255)), 1.0, 0) == 0


def kernel_codes(a: np.ndarray, za: int, sa: F, b: np.ndarray, zb: int, sb: F, s: F, z: int) -> np.ndarray:
    """QLinearAdd of ONNX Runtime without fused multiply-add: zero points go into one constant."""
    ra, rb = F(sa / s), F(sb / s)
    constant = F(z) - (ra * F(za) + rb * F(zb))
    return np.rint(a.astype(F)[:, None] * ra + (b.astype(F)[None, :] * rb + constant)).clip(0, 255)


@pytest.mark.parametrize("ratio", [700, 1500, pytest.param(6000, marks=pytest.mark.slow)])
def test_an_addend_much_coarser_than_the_output_is_kept_further_from_ties(ratio: int) -> None:
    """Hardswish of wide values: x / 6 + 1/2 with outputs 0 … 1, and 1/2 is a tie of 1/255."""
    codes, half, scale = np.arange(256), np.array([1]), float(F(1 / 255))
    misses = {"moved": 0, "as a finer one": 0}
    for zero_point in range(20, 240, 14):
        a, b = Addend(codes - zero_point, float(F(scale * ratio))), Addend(half, 0.5)
        exact, moved = np.add.outer(a.values, b.values), clear_sum_scale(a, b, scale, 0, 255)
        finer = clear_scale(exact.ravel(), scale, 0, 255)
        for name, chosen in (("moved", moved), ("as a finer one", finer)):
            wanted = np.rint(exact / chosen).clip(0, 255)
            misses[name] += int(
                (kernel_codes(codes, zero_point, F(a.scale), half, 0, F(0.5), F(chosen), 0) != wanted).sum()
            )
    assert misses["moved"] == 0 < misses["as a finer one"]


def test_no_accumulator_of_a_product_rounds_otherwise_where_they_are_not_dense() -> None:
    """All accumulators, one by one. The first case is of a network whose padding repeated one of them."""
    rng = np.random.default_rng(0)
    first = (0.04093290492892265, 0.0440797321498394, 0.47376736998558044)
    for a, b, y in np.float32([first, *rng.uniform(0.02, 0.06, (40, 3)) * (1, 1, 12)]).astype(float):
        scale = exact_product_scale(a, b, y, -168, 87)
        accumulators = np.arange(-170 * y / (a * b), 90 * y / (a * b)).round()
        multiplier = np.float32(np.float32(a) * np.float32(b)) / np.float32(scale)
        rounded = np.rint(accumulators.astype(np.float32) * multiplier)
        assert np.array_equal(rounded, np.rint(accumulators * (a * b / scale)))


def test_where_accumulators_are_dense_the_scale_is_near_and_readers_count() -> None:
    a, b, y = 1e-3, 1e-3, 0.5
    assert abs(exact_product_scale(a, b, y, -128, 127) / y - 1) < 1e-5
    readers = [0.25]  # every second code lies on a tie of this grid
    scale = exact_product_scale(a, b, 0.375, -128, 127, readers=readers)
    assert tie_distance(np.arange(-128, 128) * scale / readers[0], -255, 255) >= MARGIN
