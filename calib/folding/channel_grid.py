"""Spreading (E5) for a tensor whose channels have offsets of their own on one scale.

This is what a layer reads after convolutions side by side became one:

    c = k·q + o_c,   o_c = Z + round(k·β_c/s),   S = s/k

Every channel's codes lie in 0 … 255, and real zero is at Z in all of them. As with one offset, the remainder
|β_c - β'_c| is at most s/(2k). The codes q are clipped to 0 … p before they are spread, since their tops differ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calib.errors import QuantizationError
from calib.grid import FloatArray, Grid, zero_point_of

from .containers import CONTAINER_MAX, integral_zero_point, spread_scale


@dataclass(frozen=True, kw_only=True)
class ChannelGrid:
    """A container grid on one scale with an origin for each channel.

    stride: k. origins: o_c, int64 [C]. scale: S as float32 holds it. zero_point: Z.
    remainders: β_c - β'_c, [C], which the consumers' biases carry (E4).
    """

    stride: int
    origins: NDArray[np.int64]
    scale: float
    zero_point: int
    remainders: FloatArray


def common_grid(scale: float, offsets: FloatArray, qmax: int) -> ChannelGrid | None:
    """Codes as they are, where all β_c are the same multiple of the scale and real zero is one of the codes."""
    zero_points = {integral_zero_point(Grid(scale, float(offset), 0, qmax)) for offset in np.unique(offsets)}
    (zero_point, *others) = zero_points
    if zero_point is None or others:
        return None
    channels = len(offsets)
    return ChannelGrid(
        stride=1,
        origins=np.zeros(channels, np.int64),
        scale=float(np.float32(scale)),
        zero_point=zero_point,
        remainders=np.zeros(channels),
    )


def has_room(scale: float, offsets: FloatArray, qmax: int) -> bool:
    """Whether one container grid holds all channels with real zero, which a padded consumer needs."""
    return common_grid(scale, offsets, qmax) is not None or _nearest(scale, offsets, qmax) is not None


def channel_grid(scale: float, offsets: FloatArray, qmax: int, *, padded: bool) -> ChannelGrid:
    """Spread the codes 0 … qmax of channels with the offsets β_c, [C], on one scale.

    padded: a consumer pads with Z, so β' has to be near β; the k that makes it nearest is taken. Without padding the
    biases carry all of β (E4) and the codes are spread as far as they go.

    Errors (QuantizationError): no k has room for all offsets.
    """
    if not padded:
        finest = CONTAINER_MAX // qmax
        origins = np.full(len(offsets), CONTAINER_MAX - finest * qmax)
        return ChannelGrid(
            stride=finest,
            origins=origins,
            scale=spread_scale(scale, finest),
            zero_point=int(origins[0]),
            remainders=offsets.astype(np.float64),
        )
    best = _nearest(scale, offsets, qmax)
    if best is None:
        low, high = (offsets / scale).min(), (offsets / scale).max()
        raise QuantizationError(
            f"the offsets of convolutions side by side are {low:.3g} … {high:.3g} steps from zero: no grid holds them "
            "all with real zero, which a padded consumer needs; train with offsets nearer to zero"
        )
    return best


def _nearest(scale: float, offsets: FloatArray, qmax: int) -> ChannelGrid | None:
    """The grid whose offsets are nearest to the β_c, of the coarser ones only where they are nearer; None: no room."""
    best: ChannelGrid | None = None
    for stride in range(CONTAINER_MAX // qmax, 0, -1):
        candidate = _spread(scale, offsets, qmax, stride)
        if candidate is not None and (
            best is None or np.abs(candidate.remainders).max() < 0.999 * np.abs(best.remainders).max()
        ):
            best = candidate
    return best


def _spread(scale: float, offsets: FloatArray, qmax: int, stride: int) -> ChannelGrid | None:
    """The grid with real zero as low as it can be for one k; None if the container has no room."""
    steps = -zero_point_of(offsets, scale, spread=stride).astype(np.int64)  # of S, from Z to code 0
    lowest = max(0, -int(steps.min()))
    highest = min(CONTAINER_MAX, CONTAINER_MAX - stride * qmax - int(steps.max()))
    if lowest > highest:
        return None
    step = spread_scale(scale, stride)
    return ChannelGrid(
        stride=stride,
        origins=lowest + steps,
        scale=step,
        zero_point=lowest,
        remainders=offsets - steps * step,
    )
