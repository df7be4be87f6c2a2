"""Integer weights and the units of biases (E6), channel by channel, with which every accumulator fits int32.

A bias is an integer in units of S·s_w/g. Where training drove the scale of a channel towards zero (a γ of 1e-4 in a
batch norm, say) and left its bias as it was, the bias does not fit int32 in that unit (E6a):

    |acc| <= 255·Σ|W| + |b|/u < 2^31        W = g·q_w, u = S·s_w/g

Such a channel gets, in this order:

    1. a smaller gain g, down to 1                              exact
    2. no weights, and a bias just beyond the output's grid     exact where all codes are at one end of the grid anyway
    3. coarser weights  W = round(q_w / 2^j),  u = 2^j·S·s_w    moves the output by at most (E6b)

        max over x of |Σ (w - w')·x| / s_y     x = S·(c - Z), c = 0 … 255

j is the least that fits; and a larger one, as far as E6b stays within NEGLIGIBLE, until accumulators are within 2^24,
which float32 holds exactly (E9). In the end no weights are left, which is often nothing beside a step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calib.folding.containers import CONTAINER_MAX
from calib.grid import FloatArray

from .requantization import OutputGrid

Codes = NDArray[np.int16]
NEGLIGIBLE = 0.01  # steps of the output's grid that coarser weights may move it by
FITS = 2.0**31 * 0.9999  # scales are moved by some float32 neighbors after this (E9)
EXACT = 2.0**24  # float32 holds integers up to here
BEYOND = CONTAINER_MAX + 1  # steps from zero that are beyond every grid
SMALLEST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A Conv or Gemm before its integers are chosen.

    codes: q_w, int16 [C_out, …]. scale, bias: s_w and b, [C_out], in real units. gain: g of E6, the largest one.
    input_scale, input_zero_point: S and Z. output: None where the accumulator is the output.
    """

    codes: Codes
    scale: FloatArray
    bias: FloatArray
    gain: int
    input_scale: float
    input_zero_point: int = 0
    output: OutputGrid | None = None

    def magnitudes(self) -> FloatArray:
        """Σ|q_w| of each output channel, [C_out]."""
        return _magnitudes(self.codes)

    def reach(self) -> FloatArray:
        """max |Σ w·x| over all inputs, [C_out], in real units."""
        return self.effect(self.codes) * self.scale

    def effect(self, difference: NDArray[np.generic]) -> FloatArray:
        """max |Σ d·x| over all inputs x, [C_out], for a difference of weights [C_out, …] in units of s_w."""
        d = difference.reshape(len(difference), -1)
        above = np.maximum(d, 0).sum(1, dtype=np.float64)
        below = -np.minimum(d, 0).sum(1, dtype=np.float64)
        high, low = CONTAINER_MAX - self.input_zero_point, self.input_zero_point  # of the code, from zero
        return np.asarray(np.maximum(above * high + below * low, above * low + below * high) * self.input_scale)

    def step(self) -> float:
        """Of the output's grid; of one that would hold the largest output in 8 bits, where there is none."""
        if self.output is not None:
            return self.output.scale
        return float((np.abs(self.bias) + self.reach()).max(initial=SMALLEST)) / CONTAINER_MAX


@dataclass(frozen=True, kw_only=True)
class Sums:
    """The integers of a layer, but for the last rounding of scales to float32 (`exact_scale`).

    codes: W, int16 [C_out, …]. scale: of W, [C_out]. bias: [C_out], in real units. gain: g, or 1 where weights are
    coarser, [C_out]. coarse: bool [C_out], where weights are not g·q_w. effect: E6b in steps of the output, [C_out].
    """

    codes: Codes
    scale: FloatArray
    bias: FloatArray
    gain: NDArray[np.int64]
    coarse: NDArray[np.bool_]
    effect: FloatArray

    def magnitudes(self) -> FloatArray:
        """Σ|W| of each output channel, [C_out]."""
        return _magnitudes(self.codes)


def fit_sums(layer: Layer) -> Sums:
    """The integers of a layer whose accumulators all fit int32."""
    channels = len(layer.codes)
    gain = np.full(channels, layer.gain, np.int64)
    codes, scale, bias = layer.codes * np.int16(layer.gain), layer.scale / layer.gain, layer.bias.copy()
    coarse, effect = np.zeros(channels, bool), np.zeros(channels)
    too_large = ~_fits(layer, codes, scale)
    if too_large.any():
        reach, step = layer.reach(), layer.step()
        for c in np.flatnonzero(too_large):
            lowered = _lowered_gain(layer, int(c))
            if lowered:
                gain[c], codes[c], scale[c] = lowered, layer.codes[c] * lowered, layer.scale[c] / lowered
                continue
            gain[c] = 1
            if layer.output is not None and abs(bias[c]) - reach[c] > (BEYOND + 1) * step:
                codes[c], bias[c] = 0, np.copysign(BEYOND * step, bias[c])
                continue
            codes[c], scale[c], effect[c] = _coarser(layer, int(c), step)
            coarse[c] = effect[c] > 0
    empty = _magnitudes(codes) == 0
    scale = np.where(empty & ((bias != 0) | too_large), _scale_of_bias(layer, bias), scale)
    return Sums(codes=codes, scale=scale, bias=bias, gain=gain, coarse=coarse, effect=effect)


def _magnitudes(codes: Codes) -> FloatArray:
    return np.asarray(np.abs(codes).reshape(len(codes), -1).sum(1, dtype=np.int64).astype(np.float64))


def _bounds(layer: Layer, codes: Codes, scale: FloatArray) -> FloatArray:
    """255·Σ|W| + |b|/u (E6a), [C_out]; infinite where a scale is zero."""
    with np.errstate(all="ignore"):
        biases = np.abs(layer.bias) / (scale * layer.input_scale)
    return np.asarray(_magnitudes(codes) * CONTAINER_MAX + np.where(scale > 0, biases, np.inf))


def _fits(layer: Layer, codes: Codes, scale: FloatArray) -> NDArray[np.bool_]:
    """E6a, and no scale underflows float32, [C_out]. A channel without weights fits with another scale."""
    unit = scale * layer.input_scale
    smallest = np.minimum(scale, unit if layer.output is None else np.minimum(unit, unit / layer.output.scale))
    return np.asarray((smallest >= SMALLEST) & (_bounds(layer, codes, scale) < FITS))


def _lowered_gain(layer: Layer, channel: int) -> int:
    """The largest gain with accumulators within 2^24, or else 1; 0 if that is too much as well."""
    row = _only(layer, channel)
    if not _fits(row, row.codes, row.scale)[0]:
        return 0
    return max(1, min(layer.gain, int(EXACT / _bounds(row, row.codes, row.scale)[0])))


def _coarser(layer: Layer, channel: int, step: float) -> tuple[Codes, float, float]:
    """(W of one channel, its scale, its effect in steps); see the head of this file."""
    row = _only(layer, channel)
    chosen: tuple[Codes, float, float] | None = None
    for codes, scale, effect in _powers_of_two(row, step):
        if chosen is not None and effect > NEGLIGIBLE:
            break
        if _fits(row, codes, scale)[0] or not codes.any():
            chosen = (codes[0], float(scale[0]), effect)
            if _bounds(row, codes, scale)[0] < EXACT:
                break
    assert chosen is not None  # the last ones have no weights
    return chosen


def _powers_of_two(row: Layer, step: float) -> Iterator[tuple[Codes, FloatArray, float]]:
    """(W [1, …], its scale [1], its effect in steps) for 2, 4, 8, …, until no weights are left."""
    factor, left = 1, True
    while left:
        factor *= 2
        codes = np.rint(row.codes / factor).astype(np.int16)
        effect = float(row.effect(row.codes - factor * codes)[0] * row.scale[0]) / step
        yield codes, row.scale * factor, effect
        left = bool(codes.any())


def _only(layer: Layer, channel: int) -> Layer:
    """One channel as a layer of its own, without a gain."""
    one = slice(channel, channel + 1)
    return Layer(
        codes=layer.codes[one],
        scale=layer.scale[one],
        bias=layer.bias[one],
        gain=1,
        input_scale=layer.input_scale,
        input_zero_point=layer.input_zero_point,
        output=layer.output,
    )


def _scale_of_bias(layer: Layer, bias: FloatArray) -> FloatArray:
    """For channels without weights, [C_out]: the scale whose unit holds the bias to 24 bits."""
    return np.asarray(np.maximum(np.abs(bias), layer.step() / BEYOND) / (EXACT / 2) / layer.input_scale)
