"""How a network's bit widths are written: W4A4."""

from __future__ import annotations


def bit_widths(weights: object, activations: object) -> str:
    """W4A8 for weights of 4 bits and activations of 8."""
    return f"W{weights}A{activations}"
