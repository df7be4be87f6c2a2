"""Whether the integer network still gives the answers of the trained one; all promises can hold where it does not.

A fold that is measured to be far from the trained model breaks no promise: what it costs is a number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lsq_export.qat.origins import TRAINED

from .numbers import percent

ALL_HOLD = "all promises hold"
SAME = 0.95  # share of the same classes, below which the answers are others


def main_of(formats: Iterable[str]) -> str:
    """The format that stands for the integer network: qoperator, where it is there."""
    names = list(formats)
    return "qoperator" if "qoperator" in names else names[0]


def main_format(parity: Mapping[str, Any]) -> str:
    """That of a parity, as parity.json has it."""
    return main_of(parity["formats"])


def same_class(parity: Mapping[str, Any]) -> float | None:
    """Share, 0-1, of the classes that the integer network names as the trained one does; None: it names none."""
    same = parity["formats"][main_format(parity)]["top1_agreement"]
    return None if same is None else float(same)


def answers_otherwise(parity: Mapping[str, Any]) -> bool:
    """Whether that is much less than all."""
    return bool(otherwise(same_class(parity)))


def others(same: Mapping[str, float], origin: str = TRAINED) -> str:
    """Outputs of integers with many others than the trained ones. same: as `Parity.same_integers`."""
    found = [f"{percent(1 - share)} of {name}" for name, share in same.items() if share < SAME]
    return f"integers of outputs that are others than the {origin} ones: {', '.join(found)}" if found else ""


def otherwise(same: float | None, origin: str = TRAINED) -> str:
    """What is said of it after the promises, which hold; "" where there is nothing. same: as `same_class` gives it."""
    if same is None or same >= SAME:
        return ""
    return f"but {percent(1 - same)} of the integer network's classes are others than the {origin} one's"
