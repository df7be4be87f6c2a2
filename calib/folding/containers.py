"""From trained scales and real-valued offsets to numbers that integer hardware holds.

Spreading (E5), integer biases and the weight gain (E6), weights within 64 (E7), batch norms (E8) and clamps (E10). Only
numbers are made here; `lsq_export.rewrite` places them in the graph. Arithmetic is float64; what a file or a kernel
holds as float32 is rounded to float32 here, so that every later stage reads the number that the hardware reads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calib.errors import QuantizationError
from calib.grid import FloatArray, Grid, quantize, zero_point_of

CONTAINER_MAX = 255  # codes of activations live in UINT8
WEIGHT_LIMIT = 64  # weights within 64 (E7): two u8 x s8 products then fit a saturating int16
DEPTHWISE_LIMIT = 127  # kernels of depthwise convolutions add no two products: each is an int32 of its own
BIAS_LIMIT = 2**31 - 1
INTEGRAL = 2e-5  # steps; float32 holds multiples of a scale up to 255 to 255·2^-24 = 1.6e-5


def container_steps(levels: int) -> int:
    """The k of spreading (E5) for offsets that training keeps on multiples of s/k.

    With it, β' = β for β/s from -p to o/k, with padding too. Below 8 bits o/k is at least 1: 255 codes hold k·p and one
    step more, so that real zero may lie up to a step below the codes. At 8 bits k is 1 and o is 0.
    """
    return max(1, CONTAINER_MAX // levels)


@dataclass(frozen=True)
class StridedGrid:
    """The codes q = 0 … p of a trained grid, spread over a UINT8 container (E5): c = stride * q + origin.

    trained: the grid it was made from, unsigned.
    scale: S = s / stride as float32 holds it. zero_point: Z, so that values are S * (c - Z).
    offset: beta' = -S * (Z - origin), the offset that those values have.
    """

    trained: Grid
    stride: int
    origin: int
    scale: float
    zero_point: int

    @property
    def offset(self) -> float:
        return -self.scale * (self.zero_point - self.origin)

    @property
    def remainder(self) -> float:
        """beta - beta', which the consumers' biases have to carry (E4), in the units of the tensor."""
        return self.trained.offset - self.offset

    @property
    def is_plain(self) -> bool:
        """Whether the producer's own saturation to 0 … 255 makes the codes, so that no table look-up is needed."""
        return self.stride == 1 and self.origin == 0 and self.trained.qmax == CONTAINER_MAX


def strided_grid(grid: Grid, *, padded: bool) -> StridedGrid:
    """Place a trained grid in the container by spreading (E5).

    padded: a consumer pads with Z, so that real zero must be on the grid: the stride with beta' nearest to beta is
    taken. Without padding the finest stride is taken and Z stays in the container, wherever real zero is: the biases of
    the consumers carry the remainder (E4).

    Errors (QuantizationError): a consumer pads, and no stride has real zero on the grid.
    """
    grid = grid.unsigned()
    p = grid.qmax
    best: StridedGrid | None = None
    for stride in range(CONTAINER_MAX // p, 0, -1):
        origin = CONTAINER_MAX - stride * p
        scale = spread_scale(grid.scale, stride)
        zero_point = origin + int(zero_point_of(grid.offset, grid.scale, spread=stride))
        if not padded:
            return StridedGrid(grid, stride, origin, scale, int(np.clip(zero_point, 0, CONTAINER_MAX)))
        candidate = StridedGrid(grid, stride, origin, scale, zero_point)
        if 0 <= zero_point <= CONTAINER_MAX and (
            best is None or abs(candidate.remainder) < 0.999 * abs(best.remainder)
        ):
            best = candidate
    if best is None:
        raise _off_the_grid(grid)
    return best


def spread_scale(scale: float, stride: int) -> float:
    """S = s/k of spreading (E5), as float32 holds it."""
    return float(np.float32(scale / stride))


def integral_zero_point(grid: Grid) -> int | None:
    """Z = -β/s where training kept β on multiples of s and real zero among the codes; None elsewhere.

    The ONNX grid (E2) holds such a grid as it is, and nobody carries anything.
    """
    grid = grid.unsigned()
    position = -grid.offset / grid.scale
    zero_point = round(position)
    return zero_point if 0 <= zero_point <= grid.qmax and abs(position - zero_point) <= INTEGRAL else None


def _off_the_grid(grid: Grid) -> QuantizationError:
    """The error of an unsigned grid that does not hold real zero."""
    return QuantizationError(
        f"real zero is off the grid (values {grid.values(0):.6g} … {grid.values(grid.qmax):.6g}) and a padded consumer "
        "needs it: train with an offset nearer to zero, or use padding=0"
    )


def widen_to_zero(grid: Grid) -> Grid:
    """Put real zero on an 8-bit grid.

    The grid moves to the nearest integer zero point, or, if zero lies outside, is stretched until it is inside. Either
    costs at most half a step, as spreading (E5) with k = 1 does; qmin … qmax keep to the trained range.

    Errors (QuantizationError): a grid of fewer bits, or one so far from zero that its step would more than double.
    """
    grid = grid.unsigned()
    if grid.qmax == CONTAINER_MAX and 0 <= grid.zero_point <= CONTAINER_MAX:
        scale = float(np.float32(grid.scale))
        return Grid(scale, -scale * grid.zero_point, 0, CONTAINER_MAX)
    low, high = grid.values(0), grid.values(grid.qmax)
    reach = max(high, 0.0) - min(low, 0.0)
    if grid.qmax < 128 or reach > 2 * grid.scale * CONTAINER_MAX:
        raise _off_the_grid(grid)
    scale = float(np.float32(reach / CONTAINER_MAX))
    offset = float(-scale * zero_point_of(min(low, 0.0), scale))
    qmin, qmax = quantize(np.array([low, high]), scale, offset, 0, CONTAINER_MAX).astype(int)
    return Grid(scale, offset, int(qmin), int(qmax))


def narrow(grid: Grid, low: float, high: float) -> Grid:
    """The grid that takes over a clamp to low … high before it: a clamp of codes to code(low) … code(high) (E10)."""
    qmin = int(grid.codes(np.float64(low))) if np.isfinite(low) else grid.qmin
    qmax = int(grid.codes(np.float64(high))) if np.isfinite(high) else grid.qmax
    if qmin >= qmax:
        raise QuantizationError(
            f"the clamp to {low:g} … {high:g} before it leaves one code of the grid "
            f"{grid.values(grid.qmin):.6g} … {grid.values(grid.qmax):.6g}: initialize or train the quantizer again"
        )
    return Grid(grid.scale, grid.offset, qmin, qmax)


def fold_batch_norm(
    codes: NDArray[np.int16],
    scale: FloatArray,
    bias: FloatArray,
    gamma: FloatArray,
    beta: FloatArray,
    mean: FloatArray,
    variance: FloatArray,
    epsilon: float,
) -> tuple[NDArray[np.int16], FloatArray, FloatArray]:
    """Fold gamma * (conv + bias - mean) / sigma + beta into the scales of the weights (E8).

    The codes stay, but for their sign: gamma < 0 flips the signs of a channel's codes; gamma = 0 leaves zero codes and
    the positive scale it had. All vectors are [C_out]. Returns codes, scale and bias.
    """
    factor = gamma / np.sqrt(variance + epsilon)
    sign = np.sign(factor).astype(np.int16).reshape(-1, *[1] * (codes.ndim - 1))
    folded_scale = np.where(factor == 0, scale, scale * np.abs(factor))
    return codes * sign, folded_scale, (bias - mean) * factor + beta


def weight_gain(codes: NDArray[np.int16], *, limit: int = WEIGHT_LIMIT) -> int:
    """The weight gain (E6): the largest g with |g * q| <= limit (E7).

    It is 1 where the codes are 8-bit; those go to UINT8 with zero point 128.
    """
    largest = int(np.abs(codes).max(initial=0))
    return max(1, limit // max(1, largest))


def bias_codes(bias: FloatArray, unit: FloatArray) -> FloatArray:
    """Integer biases (E6): the bias [C_out] in its unit S * s_w, rounded half-to-even; not yet checked to fit int32."""
    return np.rint(bias / unit)


def quantize_bias(bias: FloatArray, unit: FloatArray) -> NDArray[np.int32]:
    """`bias_codes` as int32. Errors (QuantizationError): one that does not fit, or is not finite."""
    codes = bias_codes(bias, unit)
    if not np.all(np.abs(codes) <= BIAS_LIMIT):
        channel = int(np.argmax(np.abs(codes)))
        raise QuantizationError(
            f"the bias of channel {channel} is {codes[channel]:.6g} units of {unit[channel]:.6g}, beyond int32: "
            "its weights are negligible beside its bias; retrain or prune it"
        )
    return codes.astype(np.int32)
