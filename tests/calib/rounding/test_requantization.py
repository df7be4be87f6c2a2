"""calib.rounding.requantization: requantization (E9) in float32 against exact rational arithmetic."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from calib.rounding import requantization
from calib.rounding.requantization import OutputGrid, exact_scale


def e9(accumulators: np.ndarray, scale: np.float32, input_scale: float, output: OutputGrid) -> np.ndarray:
    """Requantization (E9) in float32, as kernels compute it."""
    multiplier = np.float32(np.float32(np.float32(input_scale) * scale) / np.float32(output.scale))
    return (np.rint(accumulators.astype(np.float32) * multiplier) + output.zero_point).clip(0, 255)


def real(accumulators: np.ndarray, scale: np.float32, input_scale: float, output: OutputGrid) -> np.ndarray:
    """The same in exact rational arithmetic, accumulator by accumulator."""
    step = Fraction(float(np.float32(input_scale))) * Fraction(float(scale)) / Fraction(float(np.float32(output.scale)))
    found = [min(max(round(int(a) * step) + output.zero_point, 0), 255) for a in accumulators]
    return np.array(found, np.float64)


def layers(seed: int, count: int) -> list[tuple[np.ndarray, float, OutputGrid, np.ndarray]]:
    """Random (weight scale [C], S, output grid, reach [C]), as a fold makes them."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        input_scale = float(np.float32(np.exp(rng.uniform(-7, 1))))
        scale = np.exp(rng.uniform(-8, -1, 3))
        span = np.exp(rng.uniform(5, 7.6))  # accumulators from one end of the output's grid to the other
        output = OutputGrid(float(np.float32(scale.mean() * input_scale * span / 255)), int(rng.integers(0, 256)))
        made.append((scale, input_scale, output, np.full(3, 6000.0)))
    return made


def wrong(scale: np.ndarray, input_scale: float, output: OutputGrid, reach: np.ndarray) -> int:
    """How many accumulators requantization rounds differently from real arithmetic."""
    count = 0
    for channel, s in enumerate(scale):
        accumulators = np.arange(-int(reach[channel]), int(reach[channel]) + 1)
        count += int((e9(accumulators, s, input_scale, output) != real(accumulators, s, input_scale, output)).sum())
    return count


def test_e9_rounds_every_accumulator_as_real_arithmetic_does() -> None:
    for scale, input_scale, output, reach in layers(0, 8):
        chosen = exact_scale(scale, input_scale, output, reach)
        assert chosen.dtype == np.float32 and (np.abs(chosen / scale - 1) < 1e-5).all()
        assert wrong(chosen, input_scale, output, reach) == 0


def wrong_beside_bias(
    scale: np.ndarray, input_scale: float, output: OutputGrid, reach: np.ndarray, bias: np.ndarray, gain: int
) -> int:
    """How many accumulators requantization rounds differently from the folded model.

    That has (acc - b)·S·s_w + b·float32(S·s_w), with b the bias in its int32 unit (integer biases, E6).
    """
    count = 0
    for channel, s in enumerate(scale):
        unit = np.float32(input_scale) * s
        code = round(float(bias[channel]) / float(unit))
        accumulators = np.arange(code % gain - gain * (int(reach[channel]) // gain), int(reach[channel]), gain)
        float_steps = accumulators * (input_scale * float(s) / output.scale)
        # The others are not in doubt.
        accumulators = accumulators[np.abs(float_steps - np.floor(float_steps) - 0.5) < 1e-3]
        product = Fraction(float(np.float32(input_scale))) * Fraction(float(s))
        values = [(int(a) - code) * product + code * Fraction(float(unit)) for a in accumulators]
        steps = [round(v / Fraction(float(np.float32(output.scale)))) + output.zero_point for v in values]
        count += int((e9(accumulators, s, input_scale, output) != np.array(steps, np.float64).clip(0, 255)).sum())
    return count


def test_e9_agrees_with_the_folded_model_beside_a_large_bias() -> None:
    """Float32 holds the unit of a bias 6e-8 off: 300,000 units of it move a sum by enough to cross a tie."""
    rng, missed = np.random.default_rng(11), 0
    for _ in range(4):
        input_scale, gain = float(np.float32(np.exp(rng.uniform(-6, -3)))), 8
        scale = np.exp(rng.uniform(-7, -6, 4))
        output = OutputGrid(float(np.float32(scale.mean() * input_scale * 2100)), 128)
        bias, reach = rng.choice([-1, 1], 4) * 300_000 * scale * input_scale, np.full(4, 600_000.0)
        missed += wrong_beside_bias(scale.astype(np.float32), input_scale, output, reach, bias, gain)
        assert (
            wrong_beside_bias(
                exact_scale(scale, input_scale, output, reach, bias=bias, gain=gain),
                input_scale,
                output,
                reach,
                bias,
                gain,
            )
            == 0
        )
    assert missed > 0


def test_e9_agrees_where_all_accumulators_lie_beside_a_large_bias() -> None:
    """A tiny γ: 2^23 units of bias next to a tie, and a reach of a few hundred.

    No scale serves all of the 256 ties when accumulators are that dense; for the one that can occur there is one.
    """
    rng, missed, channels = np.random.default_rng(4), 0, 6
    input_scale = float(np.float32(0.01))
    output = OutputGrid(float(np.float32(0.3)), 0)
    for _ in range(4):
        ties = rng.integers(60, 200, channels) + 0.5
        units = rng.integers(2**22, 2**23, channels)
        scale = ties * output.scale / (units * input_scale)
        bias = (units + rng.integers(-200, 200, channels)) * scale * input_scale
        beside = np.full(channels, 300.0)
        plain, found = (
            exact_scale(scale, input_scale, output, units + 400.0, bias=bias, beside=of) for of in (None, beside)
        )
        missed += beside_bias(plain, input_scale, output, bias, 300)
        assert beside_bias(found, input_scale, output, bias, 300) == 0
    assert missed > 0


def beside_bias(scale: np.ndarray, input_scale: float, output: OutputGrid, bias: np.ndarray, reach: int) -> int:
    """How many accumulators within `reach` of the bias requantization rounds otherwise than the folded model."""
    count = 0
    for s, b in zip(scale, bias, strict=True):
        unit = np.float32(input_scale) * s
        code = round(float(b) / float(unit))
        accumulators = np.arange(code - reach, code + reach + 1)
        product = Fraction(float(np.float32(input_scale))) * Fraction(float(s))
        values = [(int(a) - code) * product + code * Fraction(float(unit)) for a in accumulators]
        steps = [round(v / Fraction(float(np.float32(output.scale)))) + output.zero_point for v in values]
        count += int((e9(accumulators, s, input_scale, output) != np.array(steps, np.float64).clip(0, 255)).sum())
    return count


def test_a_scale_that_was_not_chosen_rounds_otherwise() -> None:
    """M = 1.5 / 2^k puts accumulators on ties of real arithmetic, and float32 scales next to it put them beside.

    Requantization cannot tell them apart.
    """
    rng, missed, repaired = np.random.default_rng(5), 0, 0
    for _ in range(12):
        input_scale, step = float(np.float32(np.exp(rng.uniform(-5, 0)))), float(np.float32(np.exp(rng.uniform(-3, 0))))
        output, reach = OutputGrid(step, 128), np.full(1, 3000.0)
        scale = np.array([step / input_scale * 1.5 / 2 ** rng.integers(2, 5)])
        missed += wrong(scale.astype(np.float32), input_scale, output, reach)
        repaired += wrong(exact_scale(scale, input_scale, output, reach), input_scale, output, reach)
    assert missed > 0 and repaired == 0


def test_an_accumulator_that_is_the_output_has_an_exact_scale() -> None:
    rng = np.random.default_rng(2)
    for _ in range(5):
        input_scale, scale = float(np.float32(rng.uniform(0.01, 1))), rng.uniform(1e-3, 1, 16)
        chosen = exact_scale(scale, input_scale, None, np.full(16, 1e6))
        product = [Fraction(float(s)) * Fraction(input_scale) for s in chosen]
        unit = [Fraction(float(np.float32(input_scale) * s)) for s in chosen]
        plain = [
            abs(Fraction(float(np.float32(input_scale) * s)) / (Fraction(float(s)) * Fraction(input_scale)) - 1)
            for s in scale.astype(np.float32)
        ]
        errors = [abs(u / p - 1) for u, p in zip(unit, product, strict=True)]
        assert max(errors) < max(plain) / 4  # the best of 129 neighbors; one rounding to float32 misses by up to 6e-8
        assert (np.abs(chosen / scale - 1) < 1e-5).all()


def test_an_exact_scale_stays_positive_next_to_nothing() -> None:
    tiny = float(np.finfo(np.float32).smallest_subnormal)
    assert (exact_scale(np.array([tiny * 3]), 1.0, OutputGrid(1.0, 0), np.ones(1)) > 0).all()


def test_accumulators_that_are_not_looked_at_would_have_changed_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that are not next to a tie; without a look at those that are, other scales are chosen."""
    rng, near = np.random.default_rng(3), requantization._near
    looked_at: list[float] = []

    def share(ties: Any, start: Any, spacing: Any, limit: Any) -> Any:
        found = near(ties, start, spacing, limit)
        looked_at.append(len(found[0]) / (len(ties) * len(spacing)))
        return found

    def all_of_them(ties: Any, start: Any, spacing: Any, limit: Any) -> Any:
        return np.nonzero(np.ones((len(spacing), len(ties))))

    def none(ties: Any, start: Any, spacing: Any, limit: Any) -> Any:
        return np.nonzero(np.zeros((len(spacing), len(ties))))

    unlike = 0
    for gain in (1, 4, 15, 64):
        scale, input_scale = np.exp(rng.uniform(-12, -5, 40)), float(np.float32(rng.uniform(0.01, 1)))
        output = OutputGrid(
            float(np.float32(gain * input_scale * scale.max() * rng.uniform(1, 20))), int(rng.integers(0, 256))
        )
        bias, chosen = rng.normal(size=40) * output.scale * 100, []
        for looking in (share, all_of_them, none):
            monkeypatch.setattr(requantization, "_near", looking)
            chosen.append(exact_scale(scale, input_scale, output, np.full(40, 1e5), bias=bias, gain=gain))
        assert np.array_equal(chosen[0], chosen[1])
        unlike += not np.array_equal(chosen[0], chosen[2])
    assert unlike == 4 and np.mean(looked_at) < 0.5
