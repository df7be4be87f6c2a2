"""E5 for a tensor whose channels have offsets of their own on one scale: what convolutions side by side read after they
became one.

    c = k·q + o_c,   o_c = Z + round(k·β_c/s),   S = s/k          every channel's codes in 0 … 255, real zero at Z in all of them

As in E5 the remainder |β_c - β'_c| is at most s/(2k). The codes q are clipped to 0 … p before they are spread, since
their tops differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calib.errors import QuantizationError
from calib.grid import Grid

from .containers import CONTAINER_MAX, integral_zero_point


@dataclass(frozen=True)
class ChannelGrid:
    """stride: k. origins: o_c, int64 [C].

    scale: S as float32 holds it. zero_point: Z. remainders: β_c - β'_c, [C], for the consumers' biases.
    """

    stride: int
    origins: NDArray[np.int64]
    scale: float
    zero_point: int
    remainders: NDArray[np.float64]


def common_grid(scale: float, offsets: NDArray[np.float64], qmax: int) -> ChannelGrid | None:
    """Codes as they are, where all β_c are the same multiple of the scale and real zero is one of the codes."""
    zero_points = {integral_zero_point(Grid(scale, float(offset), 0, qmax)) for offset in np.unique(offsets)}
    (zero_point, *others) = zero_points
    if zero_point is None or others:
        return None
    return ChannelGrid(
        1, np.zeros(len(offsets), np.int64), float(np.float32(scale)), zero_point, np.zeros(len(offsets))
    )


def channel_grid(scale: float, offsets: NDArray[np.float64], qmax: int, *, padded: bool) -> ChannelGrid:
    """offsets: β_c, [C], of codes 0 … qmax on one scale.

    padded: a consumer pads with Z, so β' has to be near β; the k that makes it nearest is taken. Without padding the
    biases carry all of β (E4) and the codes are spread as far as they go. Error: no k has room for all offsets."""
    finest = CONTAINER_MAX // qmax
    if not padded:
        origins = np.full(len(offsets), CONTAINER_MAX - finest * qmax)
        return ChannelGrid(
            finest, origins, float(np.float32(scale / finest)), int(origins[0]), offsets.astype(np.float64)
        )
    best: ChannelGrid | None = None
    for stride in range(finest, 0, -1):
        steps = np.rint(stride * offsets / scale).astype(np.int64)  # of S from Z to code 0
        lowest, highest = (
            max(0, -int(steps.min())),
            min(CONTAINER_MAX, CONTAINER_MAX - stride * qmax - int(steps.max())),
        )
        if lowest > highest:
            continue
        step = float(np.float32(scale / stride))
        candidate = ChannelGrid(stride, lowest + steps, step, lowest, offsets - steps * step)
        if best is None or np.abs(candidate.remainders).max() < 0.999 * np.abs(best.remainders).max():
            best = candidate
    if best is None:
        low, high = (offsets / scale).min(), (offsets / scale).max()
        raise QuantizationError(
            f"the offsets of convolutions side by side are {low:.3g} … {high:.3g} steps from zero: no grid holds them "
            "all with real zero, which a "
            "padded consumer needs; train with offsets nearer to zero"
        )
    return best
