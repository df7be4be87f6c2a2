"""The error along the depth: one bar a tensor, on a logarithmic scale, as numbers for an inline SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lsq_export.verification.numbers import share
from lsq_export.verification.summary import reason_of

# In units of the drawing: it is as wide as a small telephone shows without scaling, and grows with the page.
WIDTH, HEIGHT = 360.0, 170.0
LEFT, RIGHT, TOP, BOTTOM = 42.0, 4.0, 8.0, 18.0
LEAST = -6  # the exponent of 10 that the scale begins with, if nothing is smaller


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One tensor. x, y, width, height: of its rectangle. reason: why most of its codes differ; none: none does."""

    name: str
    x: float
    y: float
    width: float
    height: float
    reason: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Bars in the order of the network, grid lines as (y, label), and the size."""

    bars: tuple[Bar, ...]
    lines: tuple[tuple[float, str], ...]
    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    right: float = WIDTH - RIGHT
    bottom: float = HEIGHT - BOTTOM


def depth_chart(layers: Sequence[Mapping[str, Any]]) -> Chart:
    """layers: tensors in the order of the network, as parity.json has them; their `differing` is drawn."""
    shares = [layer["differing"] for layer in layers]
    least = min([LEAST, *(math.floor(math.log10(value)) - 1 for value in shares if value > 0)])
    pitch = (WIDTH - LEFT - RIGHT) / max(1, len(layers))
    return Chart(
        bars=tuple(_bar(index, layer, pitch, least) for index, layer in enumerate(layers)),
        lines=tuple((_y(exponent, least), _label(exponent)) for exponent in range(0, least - 1, -1)),
    )


def _bar(index: int, layer: Mapping[str, Any], pitch: float, least: int) -> Bar:
    differing = layer["differing"]
    bottom = HEIGHT - BOTTOM
    top = _y(math.log10(differing), least) if differing > 0 else bottom
    reasons = layer["reasons"]
    reason = str(max(reasons, key=reasons.get)) if reasons else "unknown"
    why = f", {reason_of(layer)}" if differing > 0 else ""
    return Bar(
        name=layer["name"],
        x=round(LEFT + (index + 0.1) * pitch, 2),
        y=round(top, 2),
        width=round(0.8 * pitch, 2),
        height=round(bottom - top, 2),
        reason=reason if differing > 0 else "none",
        text=f"{layer['name']}: {share(differing)} of {layer['elements']:,} codes differ{why}",
    )


def _y(exponent: float, least: int) -> float:
    """Where 10 to that power lies."""
    return round(TOP + (HEIGHT - TOP - BOTTOM) * exponent / least, 2)


def _label(exponent: int) -> str:
    return f"{100 * 10.0**exponent:g}%" if exponent >= -4 else f"1e{exponent}"
