"""The phases of a transposed convolution: which tap of its kernel meets which input, and the weights of all phases.

Output o = r·m + f of stride r gets tap t of input m + e where r·e = f + pad - dilation·t. Part of the pass
transposed.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One spatial axis. taps: (f, t, e), tap t of phase f meets input m + e. lowest, highest: of e, 0 among them."""

    stride: int
    taps: tuple[tuple[int, int, int], ...]
    lowest: int
    highest: int
    more: int  # outputs m of each phase, less inputs
    beyond: int  # outputs o that are one too many

    @property
    def kernel(self) -> int:
        """The size of the convolution."""
        return self.highest - self.lowest + 1

    @property
    def pads(self) -> tuple[int, int]:
        """Before the first input and behind the last."""
        return -self.lowest, self.more + self.kernel - 1 + self.lowest


def axis_of(kernel: int, stride: int, dilation: int, pads: tuple[int, int], output_padding: int) -> Axis:
    """The geometry of one axis of a transposed convolution."""
    taps = tuple(
        (f, t, (f + pads[0] - dilation * t) // stride)
        for f in range(stride)
        for t in range(kernel)
        if (f + pads[0] - dilation * t) % stride == 0
    )
    lowest, highest = min(0, *(e for _, _, e in taps)), max(0, *(e for _, _, e in taps))
    size = dilation * (kernel - 1) + output_padding + 1 - sum(pads) - stride  # outputs, less stride · inputs
    more = max(-(-size // stride), -highest)
    return Axis(stride=stride, taps=taps, lowest=lowest, highest=highest, more=more, beyond=stride * more - size)


def by_output(weight: np.ndarray, groups: int) -> np.ndarray:
    """[C_in, C / groups, …] => [C, C_in / groups, …]"""
    apart: np.ndarray = weight.reshape(groups, -1, *weight.shape[1:]).swapaxes(1, 2)
    return np.ascontiguousarray(apart.reshape(-1, *apart.shape[2:]))


def of_phases(weight: np.ndarray, axes: tuple[Axis, ...]) -> np.ndarray:
    """w' [C·phases, C_in / groups, K, …] of w [C, C_in / groups, k, …]; phases are the faster index."""
    strides, kernel = [axis.stride for axis in axes], [axis.kernel for axis in axes]
    spread = np.zeros((len(weight), *strides, weight.shape[1], *kernel), weight.dtype)
    for taps in product(*(axis.taps for axis in axes)):
        phase, tap = tuple(f for f, _, _ in taps), tuple(t for _, t, _ in taps)
        place = tuple(e - axis.lowest for (_, _, e), axis in zip(taps, axes, strict=True))
        target: tuple[Any, ...] = (slice(None), *phase, slice(None), *place)
        source: tuple[Any, ...] = (slice(None), slice(None), *tap)
        spread[target] = weight[source]
    return spread.reshape(-1, weight.shape[1], *kernel)
