"""Sliding windows: output sizes and pads of convolutions and pools.

    output = (size + pads - (kernel - 1)·dilation - 1) / stride + 1

The division is rounded down, or up with ceil_mode.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from types import EllipsisType
from typing import TypeAlias

from .node import Array, Node

Index: TypeAlias = tuple[EllipsisType | slice, ...]


@dataclass(frozen=True, kw_only=True)
class Window:
    """The geometry of one node on one input size; every tuple has one entry a spatial axis."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]  # pads at the start of each axis
    after: tuple[int, ...]  # pads at the end, as the node states them
    size: tuple[int, ...]  # of the input
    output: tuple[int, ...]

    @property
    def padded(self) -> tuple[int, ...]:
        """Size of the padded input that holds every window, overhang by ceil_mode included."""
        reach = zip(self.output, self.strides, self.kernel, self.dilations, self.size, self.before, strict=True)
        return tuple(max((o - 1) * s + (k - 1) * d + 1, n + b) for o, s, k, d, n, b in reach)

    @property
    def inside(self) -> Index:
        """Where the input lies in the padded input."""
        return (..., *(slice(b, b + n) for b, n in zip(self.before, self.size, strict=True)))

    def taps(self) -> Iterator[Index]:
        """For each position in the kernel, in row-major order: the elements of the padded input that it meets."""
        for tap in itertools.product(*(range(k) for k in self.kernel)):
            axes = zip(tap, self.dilations, self.strides, self.output, strict=True)
            yield (..., *(slice(t * d, t * d + (o - 1) * s + 1, s) for t, d, s, o in axes))


def window(node: Node, x: Array, kernel: tuple[int, ...]) -> Window:
    """The window of a convolution or pool on x (N, C, *size).

    It has the attributes strides, dilations, pads, auto_pad and ceil_mode.
    """
    rank = x.ndim - 2
    if len(kernel) != rank or rank < 1:
        raise node.error(f"kernel {list(kernel)} does not fit an input of shape {list(x.shape)}")
    size = tuple(x.shape[2:])
    strides = tuple(node.attributes.get("strides") or [1] * rank)
    dilations = tuple(node.attributes.get("dilations") or [1] * rank)
    pads = list(node.attributes.get("pads") or [0] * 2 * rank)
    auto = node.attributes.get("auto_pad", b"NOTSET").decode()
    ceil = bool(node.attributes.get("ceil_mode", 0))
    output = []
    for i, (n, k, s, d) in enumerate(zip(size, kernel, strides, dilations, strict=True)):
        if auto == "VALID":
            pads[i] = pads[rank + i] = 0
        elif auto in ("SAME_UPPER", "SAME_LOWER"):
            total = max(0, (-(-n // s) - 1) * s + (k - 1) * d + 1 - n)
            small, large = total // 2, total - total // 2
            pads[i], pads[rank + i] = (small, large) if auto == "SAME_UPPER" else (large, small)
        elif auto != "NOTSET":
            raise node.error(f"auto_pad {auto} is not supported")
        span = n + pads[i] + pads[rank + i] - (k - 1) * d - 1
        count = (-(-span // s) if ceil else span // s) + 1
        if ceil and (count - 1) * s >= n + pads[i]:
            count -= 1  # a window that would start in the pad at the end does not exist
        if count < 1:
            raise node.error(
                f"kernel {k} (dilation {d}) is larger than the padded input of {n + pads[i] + pads[rank + i]}"
            )
        output.append(count)
    return Window(
        kernel=kernel,
        strides=strides,
        dilations=dilations,
        before=tuple(pads[:rank]),
        after=tuple(pads[rank:]),
        size=size,
        output=tuple(output),
    )
