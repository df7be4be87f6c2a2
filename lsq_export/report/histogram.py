"""What a quantizer reads, drawn on its grid, and the codes of weights: numbers for small inline SVGs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# In units of the drawing, which is as large on the page.
WIDTH, HEIGHT = 160, 34
BASE = HEIGHT - 6  # the line that the bars stand on; the grid's values are below it
MOST_TICKS = 32  # of more levels, only the ends of the grid are drawn


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """outline: the path of the bars, whose heights are square roots of counts: rare values stay visible. ticks: where
    the values of the grid are, all of them or the two ends. low, high: the ends of what the grid holds.
    """

    outline: str
    ticks: tuple[float, ...]
    low: float
    high: float
    text: str
    width: int = WIDTH
    height: int = HEIGHT
    base: int = BASE


def histogram_of(data: Mapping[str, Any], levels: int, scale: float, offset: float) -> Histogram:
    """data: of a tensor in parity.json. levels, scale, offset: of its grid; the first value is the offset."""
    first, last = float(data["low"]), float(data["high"])

    def x(value: float) -> float:
        return round(WIDTH * (value - first) / (last - first), 1)

    drawn = range(levels) if levels <= MOST_TICKS else (0, levels - 1)
    low, high = offset, offset + (levels - 1) * scale
    return Histogram(
        outline=_outline(data["counts"]),
        ticks=tuple(x(offset + code * scale) for code in drawn),
        low=x(low - scale / 2),
        high=x(high + scale / 2),
        text=f"{levels} values from {low:.4g} to {high:.4g}, what is read on them",
    )


def histogram_of_codes(codes: Mapping[str, Any]) -> Histogram:
    """Of the weights of a layer. codes: of a layer in manifest.json."""
    counts, first, step = codes["counts"], codes["first"], codes["step"]
    last = first + (len(counts) - 1) * step
    pitch = WIDTH / max(1, len(counts))
    inside = range(len(counts)) if len(counts) <= MOST_TICKS else ()
    zero = [round((-first / step + 0.5) * pitch, 1)] if first <= 0 <= last and not inside else []
    return Histogram(
        outline=_outline(counts),
        ticks=tuple(round((index + 0.5) * pitch, 1) for index in inside) or tuple(zero),
        low=0.0,
        high=float(WIDTH),
        text=f"codes from {first} to {last} in steps of {step}, and how often weights have them",
    )


def _outline(counts: list[int]) -> str:
    """Steps from the left to the right, closed at the base."""
    pitch, most = WIDTH / max(1, len(counts)), max([1, *counts])
    steps, before = [f"M0 {BASE}"], 0.0
    for index, count in enumerate(counts):
        height = round((BASE - 1) * math.sqrt(count / most), 1)
        if height != before:
            steps.append(f"H{index * pitch:g}V{BASE - height:g}")
        before = height
    return f"{''.join(steps)}H{WIDTH}V{BASE}Z"
