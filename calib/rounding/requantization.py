"""Weight scales with which the float32 arithmetic of requantization (E9) rounds as real arithmetic does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.folding.containers import CONTAINER_MAX, bias_codes
from calib.grid import FloatArray

NEIGHBORS = 64
CLEAR = 2e-4  # steps from a tie, out of reach of the rounding of a float32 sum


@dataclass(frozen=True)
class OutputGrid:
    """The grid on which a layer's accumulators are rounded: codes 0 … 255 of scale * (c - zero_point)."""

    scale: float
    zero_point: int


def exact_scale(
    scale: FloatArray,
    input_scale: float,
    output: OutputGrid | None,
    reach: FloatArray,
    *,
    bias: FloatArray | None = None,
    gain: int | NDArray[np.int64] = 1,
    beside: FloatArray | None = None,
) -> NDArray[np.float32]:
    """Weight scales [C_out] in float32 with which requantization (E9) rounds every accumulator as real arithmetic does.

    Requantization computes float32(acc) * M with M = float32(float32(S·s_w)/s_y): three roundings, so that an
    accumulator next to a tie may get another code than the real number S·s_w·acc/s_y does. Among the neighbors of s_w,
    at most NEIGHBORS units in the last place (8e-6) away, this takes the first of these that there is:

    1. the nearest with which all accumulators up to `reach` [C_out] agree and keep CLEAR of ties (only the two beside
       each of the 256 ties need a look);
    2. the one with which all agree and keep clearest of ties, or, where accumulators are too dense for any to be clear,
       the nearest with which all agree;
    3. the one with the most exact M (where accumulators go beyond 2^24).

    output: None if the accumulator itself is the output; then S·s_w is made exact.
    bias, gain: with the bias b [C_out], in the units of the output, accumulators are round(b/(S·s_w)) plus multiples of
    the gain, one number or [C_out]; the others do not occur.
    beside: [C_out], those farther than that from round(b/(S·s_w)) do not occur either. Where a scale is tiny, all
    accumulators lie beside a large bias, and few of the ties are near.
    """
    bias = np.zeros(len(scale)) if bias is None else bias
    beside = np.full(len(scale), np.inf) if beside is None else beside
    spacing = np.broadcast_to(np.asarray(gain, np.float64), scale.shape)
    base = scale.astype(np.float32)
    result: NDArray[np.float32] = base.copy()
    open_channels = np.arange(len(base))
    # How bad the result is: below 0 where all accumulators agree, -2 where they are clear of ties as well.
    least = np.full(len(base), np.inf)
    enough = np.where(_hopeless(scale, input_scale, output, spacing), -1.0, -2.0)
    for offset in sorted(range(-NEIGHBORS, NEIGHBORS + 1), key=abs):
        candidate = base[open_channels] + np.float32(offset) * np.spacing(base[open_channels])
        occurring = _Occurring(*(values[open_channels] for values in (reach, bias, spacing, beside)))
        error, agrees, clear = _requantization(candidate, input_scale, output, occurring)
        badness = np.where(agrees, -1 - clear, error)
        better = (candidate > 0) & (badness < least[open_channels])
        result[open_channels[better]] = candidate[better]
        least[open_channels[better]] = badness[better]
        open_channels = open_channels[least[open_channels] > enough[open_channels]]
        if not len(open_channels):
            break
    return result


@dataclass(frozen=True)
class _Occurring:
    """Which accumulators can occur, [C_out] each; see `exact_scale`."""

    reach: FloatArray
    bias: FloatArray
    gain: FloatArray
    beside: FloatArray


def _hopeless(scale: FloatArray, input_scale: float, output: OutputGrid | None, gain: FloatArray) -> NDArray[np.bool_]:
    """Channels whose accumulators lie so densely that fewer than one candidate in a thousand would be clear of ties.

    Clear: all 257 pairs of accumulators beside ties keep away from them.
    """
    if output is None:
        return np.zeros(len(scale), bool)
    spacing = gain * scale * input_scale / output.scale  # of accumulators, in steps
    with np.errstate(divide="ignore"):
        return np.asarray(np.clip(1 - 2 * CLEAR / spacing, 0, 1) ** (CONTAINER_MAX + 2) < 1e-3)


def _requantization(
    scale: NDArray[np.float32],
    input_scale: float,
    output: OutputGrid | None,
    occurring: _Occurring,
) -> tuple[FloatArray, NDArray[np.bool_], FloatArray]:
    """How requantization (E9) rounds with these scales, per channel.

    Returns the relative error of its multiplier, whether all accumulators get the code of real arithmetic, and how
    clear of ties they keep, 0 … 1. Only accumulators next to a tie can round differently or be less than clear; the
    others are not looked at.
    """
    product = np.float64(input_scale) * scale.astype(np.float64)  # exact: 48 bits
    unit = np.float32(input_scale) * scale
    with np.errstate(all="ignore"):
        if output is None:
            error = np.abs(unit / product - 1)
            return error, error < 2.0**-32, np.ones(len(scale))
        multiplier = unit / np.float32(output.scale)
        real = product / output.scale
        error = np.abs(multiplier / real - 1) + np.abs(unit / product - 1)
        ties = np.arange(-output.zero_point - 1, CONTAINER_MAX - output.zero_point + 1) + 0.5
        rounded_bias = bias_codes(occurring.bias, unit.astype(np.float64))
        # Steps: the folded model's bias is in units of float32(S·s_w), its sums are not.
        excess = rounded_bias * (unit - product) / output.scale
        gain, reach, beside = occurring.gain, occurring.reach, occurring.beside
        start = np.where(gain > 1, rounded_bias, 0.0)
        # Steps: roundings do not carry an accumulator farther than this.
        unclear = CLEAR + np.abs(excess) + (CONTAINER_MAX + 2) * (error + 2.0**-22)
        channel, index = _near(ties, start / gain, gain * real, unclear)
        tie = ties[index]
        real, start, excess, multiplier, reach, gain, beside, middle = (
            v[channel] for v in (real, start, excess, multiplier, reach, gain, beside, rounded_bias)
        )
        below = start + gain * np.floor((tie / real - start) / gain)  # accumulators on both sides of each of these ties
        agrees, clear = np.ones(len(scale), bool), np.ones(len(scale))
        for accumulator in (below, below + gain):
            exact = accumulator * real + excess
            rounded = np.rint(accumulator.astype(np.float32) * multiplier)
            distance = np.abs(exact - tie)
            beyond = (np.abs(accumulator) > reach) | (np.abs(accumulator - middle) > beside)
            agrees[channel[~(((rounded == np.rint(exact)) & (distance > 1e-9)) | beyond)]] = False
            np.minimum.at(clear, channel, np.where(beyond, 1.0, distance / CLEAR))
    return error, agrees, clear


def _near(
    ties: NDArray[Any], start: NDArray[Any], spacing: NDArray[Any], limit: NDArray[Any]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(channel, tie) of each tie that an accumulator lies nearer to than the limit [C], in steps.

    Accumulators: (start + n) * spacing [C] for every integer n.
    """
    position = ties / spacing[:, None]
    position -= start[:, None]
    position -= np.floor(position)
    position -= 0.5
    channel, tie = np.nonzero(~(np.abs(position, out=position) < (0.5 - limit / spacing)[:, None]))
    return channel, tie
