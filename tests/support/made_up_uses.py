"""Uses of a grid that nobody measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from calib.drift.range_use import RangeUse


def use(**changes: Any) -> RangeUse:
    """That of a quantizer of 4 bits, with these changes."""
    base = RangeUse(
        name="a.input",
        bits=4,
        scale=0.1,
        offset=0.0,
        elements=1000,
        below=0.0,
        above=0.004,
        codes=14,
        min=0.0,
        max=2.0,
        mean=0.5,
        std=0.3,
        mse=0.1**2 / 12,
        mse_below=0.0,
        mse_above=0.0,
        noise=1.0,
    )
    return replace(base, **changes)
