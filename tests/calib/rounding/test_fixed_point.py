"""calib.rounding.fixed_point: the arithmetic of ARM64's QLinearAdd.

It is held against plain integers and against codes that an emulated ARM64 gave.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from calib.rounding.candidates import MARGIN
from calib.rounding.fixed_point import Addend, fixed_point_sums
from calib.rounding.ties import clear_sum_scale, fixed_point_agrees, tie_distance

F = np.float32
EVERY = np.arange(256)
# A grid of `make test-isa` ("sum beside a tie"): every sum is more than MARGIN from a tie, and yet one code is another
# on ARM64.
BESIDE = (
    Addend(EVERY - 240, float(F(0.006179411))),
    Addend(EVERY - 11, float(F(0.015882032))),
    float(F(0.008824789)),
    75,
)


def plain(a: int, b: int, ratio_a: float, ratio_b: float) -> int:
    """One sum, bit by bit: 22-bit multipliers, ties away from zero."""
    shift = 21 - math.floor(math.log2(max(ratio_a, ratio_b)))
    total = a * round(ratio_a * 2**shift) + b * round(ratio_b * 2**shift)
    whole, rest = divmod(abs(total), 2**shift)
    return int(math.copysign(whole + (2 * rest >= 2**shift), total))


@pytest.mark.parametrize("seed", range(5))
def test_against_plain_integers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (Addend(rng.integers(-255, 256, 40), float(F(np.exp(rng.uniform(-6, 0))))) for _ in "ab")
    scale = F(np.exp(rng.uniform(-4, 0)))
    sums = fixed_point_sums(a, b, float(scale))
    ratios = float(F(a.scale) / scale), float(F(b.scale) / scale)
    assert sums is not None
    assert all(
        sums[i, j] == plain(int(x), int(y), *ratios) for i, x in enumerate(a.steps) for j, y in enumerate(b.steps)
    )


def test_ties_go_away_from_zero() -> None:
    a, zero = Addend(np.array([-3, -1, 1, 3]), 0.5), Addend(np.array([0]), 0.5)
    assert np.array_equal(fixed_point_sums(a, zero, 1.0), [[-2], [-1], [1], [2]])


@pytest.mark.parametrize("ratio", [2.0**-15, 256.0])
def test_beyond_these_ratios_the_kernel_works_in_float32(ratio: float) -> None:
    assert fixed_point_sums(Addend(EVERY, 1.0), Addend(EVERY, ratio), 1.0) is None
    assert fixed_point_sums(Addend(EVERY, 2.0**-11), Addend(EVERY, 2.0**-11), 1.0) is None  # a shift by 32


def test_a_multiplier_that_rounds_up_to_23_bits_is_none() -> None:
    assert fixed_point_sums(Addend(EVERY, float(np.nextafter(F(1), F(0)))), Addend(EVERY, 0.5), 1.0) is None


def test_the_code_that_arm64_gave() -> None:
    a, b, scale, zero_point = BESIDE
    sums = fixed_point_sums(a, b, scale)
    exact = np.rint(np.add.outer(a.values, b.values) / scale)
    assert sums is not None
    assert tie_distance(np.add.outer(a.values, b.values) / scale, -zero_point, 255 - zero_point) > MARGIN
    assert np.argwhere((sums + zero_point).clip(0, 255) != (exact + zero_point).clip(0, 255)).tolist() == [[14, 172]]
    # 206: onnxruntime 1.32 under qemu-aarch64.
    assert (sums[14, 172] + zero_point, exact[14, 172] + zero_point) == (206, 207)


def test_the_export_takes_a_scale_on_which_all_agree() -> None:
    a, b, scale, zero_point = BESIDE
    low, high = -zero_point, 255 - zero_point
    assert not fixed_point_agrees(a, b, scale, low, high)
    moved = clear_sum_scale(a, b, scale, low, high)
    assert moved > scale and fixed_point_agrees(a, b, moved, low, high)
    assert tie_distance(np.add.outer(a.values, b.values) / moved, low, high) >= MARGIN
