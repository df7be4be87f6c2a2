"""Numbers as people read them, the same in tables, summaries and reports."""

from __future__ import annotations

import math
from collections.abc import Mapping

ABSENT = "–"
OUTPUTS = 3  # that a line names


def percent(value: float | None, digits: int = 2) -> str:
    """98.33%."""
    return ABSENT if value is None else f"{unsigned_zero(f'{100 * value:.{digits}f}')}%"


def share(value: float) -> str:
    """A share that may be tiny: 16.4%, 0.078%, 0%."""
    return f"{100 * value:.{3 if value >= 0.1 else 2}g}%"


def codes_differ(part: float, largest: int) -> str:
    """16.4% of codes differ by 1; or differ, by 3 at most. part: their share."""
    return f"{share(part)} of codes differ{f', by {largest} at most' if largest > 1 else f' by {largest}'}"


def decibel(value: float | None) -> str:
    """None: what JSON says for infinity."""
    return f"{unsigned_zero(f'{math.inf if value is None else value:.1f}')} dB"


def by_output(values: Mapping[str, float | None]) -> str:
    """(boxes 31.0 dB, scores 40.2 dB): of several outputs, the worst first; "" of one. values: {output: decibel}."""
    worst = sorted(values.items(), key=lambda entry: math.inf if entry[1] is None else entry[1])
    shown = ", ".join(f"{name} {decibel(value)}" for name, value in worst[:OUTPUTS])
    more = f" and {len(worst) - OUTPUTS} more" if len(worst) > OUTPUTS else ""
    return f" ({shown}{more})" if len(worst) > 1 else ""


def number(value: float | None, digits: int = 4) -> str:
    """So many digits that matter."""
    return ABSENT if value is None else unsigned_zero(f"{value:.{digits}g}")


def megabytes(count: float | None) -> str:
    """Two digits after the point; three for small files."""
    return ABSENT if count is None else f"{count / 1e6:.{3 if count < 1e5 else 2}f} MB"


def unsigned_zero(text: str) -> str:
    """-0.00 is 0.00."""
    return text.removeprefix("-") if text.startswith("-") and not text.strip("-0.") else text
