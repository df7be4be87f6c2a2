"""How a network's bit widths are written: W4A4."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAMED = 3  # patterns that a title lists


def bit_widths(weights: object, activations: object) -> str:
    """W4A8 for weights of 4 bits and activations of 8."""
    return f"W{weights}A{activations}"


def widths_of(config: Mapping[str, Any]) -> str:
    """Of the plain values of a QATConfig: "W4A4", or "W4A4 (otherwise: features.0*, head)" with wishes for layers."""
    widths = bit_widths(config.get("weight_bits"), config.get("activation_bits"))
    patterns = list(config.get("layers") or ())
    if not patterns:
        return widths
    more = f" and {len(patterns) - NAMED} more" if len(patterns) > NAMED else ""
    return f"{widths} (otherwise: {', '.join(patterns[:NAMED])}{more})"
