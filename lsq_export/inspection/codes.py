"""Stored codes and their containers: how many codes a weight really uses, of how many bits."""

from __future__ import annotations

import math
import re

import numpy as np


def container_bits(container: str) -> int:
    """8 for UINT8, …"""
    return int(re.sub(r"\D", "", container))


def container_range(container: str) -> tuple[int, int]:
    """(smallest, largest) code of UINT8, INT4, …"""
    bits = container_bits(container)
    return (0, 2**bits - 1) if container.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def bits_for(levels: int) -> int:
    """The smallest width that has so many codes."""
    return max(1, math.ceil(math.log2(levels)))


def used_codes(codes: np.ndarray, zero_point: np.ndarray | None, axis: int | None) -> tuple[int, int, int]:
    """(levels, bits, gain) of stored codes.

    bits: the width that holds the span of codes of every channel, in units of the gain, so that channels whose sign a
    negative batch norm flipped (E8) need no extra bit. The gain is the greatest common divisor of all codes, of each
    channel's for the bits.
    """
    if codes.size == 0:
        return 0, 1, 1
    centered = codes - _broadcast(zero_point, codes.ndim, axis)  # zero is 0
    if codes.ndim:
        channels = np.moveaxis(centered, axis or 0, 0).reshape(codes.shape[axis or 0], -1)
    else:
        channels = centered.reshape(1, 1)
    gain = max(1, int(np.gcd.reduce(centered, axis=None)))
    gains = np.maximum(1, np.gcd.reduce(channels, axis=1)) if axis is not None else np.full(len(channels), gain)
    spans = (channels.max(axis=1) - channels.min(axis=1)) // gains
    return len(np.unique(centered)), bits_for(int(spans.max()) + 1), gain


def _broadcast(zero_point: np.ndarray | None, rank: int, axis: int | None) -> np.ndarray:
    """Shaped to go with a tensor of that rank."""
    if zero_point is None:
        return np.zeros((), dtype=np.int64)
    if zero_point.size == 1 or axis is None:
        return zero_point
    return zero_point.reshape([-1 if i == axis else 1 for i in range(rank)])
