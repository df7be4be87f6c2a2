"""calib.rounding.sums: accumulators that fit int32 (E6a), and the most that coarser weights move an output (E6b)."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.rounding.requantization import OutputGrid
from calib.rounding.sums import EXACT, NEGLIGIBLE, Layer, Sums, fit_sums

OUTPUT = OutputGrid(0.1, 0)
Q = np.array([[7, -8, 3], [1, -1, 0]], np.int16)


def layer(**changes: Any) -> Layer:
    """Two channels of three taps, 4 bits; x = 0.01·c."""
    numbers: dict[str, Any] = {
        "codes": Q,
        "scale": np.array([0.02, 0.02]),
        "bias": np.array([0.7, -0.7]),
        "gain": 8,
        "input_scale": 0.01,
        "output": OUTPUT,
    }
    return Layer(**{**numbers, **changes})


def random_layer(seed: int) -> Layer:
    """Scales from normal down to nothing beside biases up to 1, and far beyond the output's grid."""
    rng = np.random.default_rng(seed)
    bits, taps, channels = int(rng.choice([2, 3, 4, 8])), int(rng.choice([1, 9, 400])), 6
    codes = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) + 1, (channels, taps)).astype(np.int16)
    codes[0] *= int(rng.integers(2))
    return Layer(
        codes=codes,
        scale=10.0 ** rng.uniform(-14, -2, channels) * (rng.uniform(size=channels) > 0.05),
        bias=rng.uniform(-1, 1, channels) * rng.choice([0, 1, 1, 1, 1e3], channels),
        gain=int(rng.choice([1, max(1, 64 // 2 ** (bits - 1))])),
        input_scale=float(np.float32(10.0 ** rng.uniform(-4, 0))),
        input_zero_point=int(rng.choice([0, 100, 255])),
        output=OutputGrid(float(np.float32(10.0 ** rng.uniform(-3, 0))), int(rng.choice([0, 77]))),
    )


def worst_inputs(made: Layer, difference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two inputs [taps], in c - Z, that move a channel most; difference: of its weights, [taps]."""
    low, high = -made.input_zero_point, 255 - made.input_zero_point
    return np.where(difference > 0, high, low), np.where(difference > 0, low, high)


def moved(made: Layer, sums: Sums, channel: int, x: np.ndarray) -> float:
    """Steps by which an output moves for one input x [taps], in c - Z, in rational arithmetic."""
    assert made.output is not None
    stored = Fraction(float(sums.scale[channel])) * int(sums.codes[channel].astype(np.int64) @ x)
    trained = Fraction(float(made.scale[channel])) * int(made.codes[channel].astype(np.int64) @ x)
    return float(abs(stored - trained) * Fraction(made.input_scale) / Fraction(made.output.scale))


def bounds(made: Layer, sums: Sums) -> np.ndarray:
    """255·Σ|W| + |b|/u of each channel (E6a)."""
    sizes = np.abs(sums.codes.astype(np.int64)).reshape(len(sums.codes), -1).sum(1)
    return np.asarray(255 * sizes + np.abs(sums.bias) / (sums.scale * made.input_scale))


def saturated(made: Layer, sums: Sums, channel: int) -> bool:
    """The bias was moved: every input gives the code at that end of the grid, before and after."""
    if sums.bias[channel] == made.bias[channel]:
        return False
    assert made.output is not None
    ends = [
        made.bias[channel] + float(made.codes[channel] @ x) * made.scale[channel] * made.input_scale
        for x in worst_inputs(made, made.codes[channel])
    ]
    codes = [round(v / made.output.scale) + made.output.zero_point for v in (*ends, sums.bias[channel])]
    assert all(c >= 255 for c in codes) or all(c <= 0 for c in codes), codes
    assert not sums.codes[channel].any() and sums.effect[channel] == 0
    return True


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.integers(0, 2**32))
def test_every_sum_fits_and_outputs_move_by_no_more_than_is_said(seed: int) -> None:
    made = random_layer(seed)
    sums = fit_sums(made)
    assert (bounds(made, sums) < 2**31).all() and (sums.scale >= 0).all()
    assert (sums.gain >= 1).all() and (sums.gain <= made.gain).all()
    for c in range(len(made.codes)):
        if saturated(made, sums, c):
            continue
        if not sums.coarse[c] and made.scale[c] > 0:
            assert np.array_equal(sums.codes[c], sums.gain[c] * made.codes[c])
        difference = made.codes[c] - np.rint(sums.codes[c] * (sums.scale[c] / max(made.scale[c], 1e-300)))
        found = [moved(made, sums, c, x) for x in worst_inputs(made, difference)]
        assert max(found) <= sums.effect[c] * (1 + 1e-9) + 1e-12
        if sums.coarse[c]:
            assert max(found) == pytest.approx(sums.effect[c], rel=1e-6)  # the bound is reached


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(0, 2**32))
def test_weights_are_no_coarser_than_they_have_to_be(seed: int) -> None:
    """One power of two less would not fit, or was within 0.01 of a step all the same."""
    made = random_layer(seed)
    sums = fit_sums(made)
    for c in np.flatnonzero(sums.coarse):
        assert made.codes[c].any() and made.scale[c] > 0
        unit = made.scale[c] * made.input_scale
        plain = 255 * np.abs(made.codes[c].astype(int)).sum() + abs(made.bias[c]) / unit
        assert plain >= 2**31 * 0.9999 or unit / made.output.scale < 1e-37  # type: ignore[union-attr]
        if sums.effect[c] > NEGLIGIBLE and sums.codes[c].any():
            finer = round(sums.scale[c] / made.scale[c]) // 2
            codes = np.rint(made.codes[c] / finer)
            assert 255 * np.abs(codes).sum() + abs(made.bias[c]) / (unit * finer) >= 2**31 * 0.9999


def test_normal_scales_are_left_alone() -> None:
    sums = fit_sums(layer())
    assert np.array_equal(sums.codes, 8 * Q) and not sums.coarse.any() and not sums.effect.any()
    assert np.array_equal(sums.scale, layer().scale / 8) and np.array_equal(sums.bias, layer().bias)


def test_a_smaller_gain_comes_first_and_is_exact() -> None:
    """0.7 is 2.8e9 units of 2e-9/8, beyond int32, and 3.5e8 of 2e-9."""
    sums = fit_sums(layer(scale=np.array([2e-7, 0.02])))
    assert sums.gain.tolist() == [1, 8] and not sums.coarse.any()
    assert np.array_equal(sums.codes[0], Q[0]) and sums.scale[0] == 2e-7
    # 1.3e9 units of the gain 64: a gain of 1 would do, too, but 2^24 allows more
    many = fit_sums(layer(scale=np.array([2e-6, 0.02]), gain=64, bias=np.array([0.7, 0])))
    assert 1 <= many.gain[0] < 64


def test_coarser_weights_by_hand() -> None:
    """0.7 in units of 0.02·1e-8 is 3.5e9: half of that fits.

    The rounded weights miss by 1, 0 and 1 of 2e-8, inputs go to 2.55, and the step is 1e-6 so that this matters.
    """
    tiny = layer(scale=np.array([2e-8, 0.02]), output=OutputGrid(3e-3, 0))
    assert tiny.effect(np.array([[1, 0, 1], [0, 0, 0]]))[0] == pytest.approx(2 * 2.55)
    sums = fit_sums(tiny)
    assert sums.coarse.tolist() == [True, False] and sums.gain[0] == 1
    factor = sums.scale[0] / 2e-8
    assert factor >= 2 and 0 < sums.effect[0] < NEGLIGIBLE


def test_a_power_too_many_is_seen() -> None:
    """The check of the first test fails where weights are coarser than what was decided."""
    made, broken = next(
        (found, coarser(found, sums, int(c)))
        for found, sums in ((m, fit_sums(m)) for m in map(random_layer, range(1000)))
        for c in np.flatnonzero(sums.coarse)
        if sums.codes[c].any()
    )
    sums, c = broken
    difference = made.codes[c] - np.rint(sums.codes[c] * (sums.scale[c] / made.scale[c]))
    assert max(moved(made, sums, c, x) for x in worst_inputs(made, difference)) > 1.01 * sums.effect[c]


def coarser(made: Layer, sums: Sums, channel: int) -> tuple[Sums, int]:
    """One channel with twice its unit, and the effect that was said before."""
    codes, scale = sums.codes.copy(), sums.scale.copy()
    codes[channel], scale[channel] = np.rint(codes[channel] / 2), 2 * scale[channel]
    return Sums(
        codes=codes, scale=scale, bias=sums.bias, gain=sums.gain, coarse=sums.coarse, effect=sums.effect
    ), channel


def test_float32_holds_the_sums_where_that_costs_nothing() -> None:
    """A channel that moves its output by millionths of a step has no weights, and its bias 24 bits."""
    sums = fit_sums(layer(scale=np.array([1e-12, 0.02])))
    assert not sums.codes[0].any() and 0 < sums.effect[0] < 1e-6
    assert bounds(layer(), sums)[0] == pytest.approx(EXACT / 2)


def test_a_bias_beyond_the_grid_is_a_constant() -> None:
    sums = fit_sums(layer(bias=np.array([1e9, -1e9]), scale=np.array([1e-4, 1e-4])))
    assert not sums.codes.any() and not sums.coarse.any() and not sums.effect.any()
    assert sums.bias == pytest.approx([25.6, -25.6])


def test_a_sum_of_too_many_taps_gets_coarser_weights() -> None:
    wide = layer(codes=np.full((2, 70_000), -127, np.int16), bias=np.zeros(2), gain=1)
    sums = fit_sums(wide)
    assert (bounds(wide, sums) < 2**31).all() and sums.coarse.all()
    assert set(sums.codes.ravel().tolist()) == {-64} and (sums.effect > NEGLIGIBLE).all()


def test_a_float_output_counts_as_eight_bits() -> None:
    made = layer(output=None, bias=np.array([1.0, 1e9]), input_scale=0.5, scale=np.full(2, 0.1))
    sums = fit_sums(made)
    assert made.step() == pytest.approx(1e9 / 255, rel=1e-3)
    assert sums.coarse.tolist() == [False, True] and not sums.codes[1].any() and sums.effect[1] < NEGLIGIBLE
