"""Candidates for a scale or a shift, and the first of them that is clear of ties."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

import numpy as np

CANDIDATES = 16000
MARGIN = 5e-5  # steps; three float32 roundings of numbers up to 512 miss by at most 3 * 2^-16 = 4.6e-5
FURTHER = 400  # candidates behind the first that is clear of ties, for one that changes no code of a table

Changes = Callable[[float], int]  # how many codes of the tables that read this grid another scale of it changes


def no_tables(scale: float) -> int:
    return 0


def steps_from(start: float, step: float, count: int) -> Iterable[float]:
    return (float(np.float32(start + step * i)) for i in range(count))


def steps_around(start: float, step: float, count: int = CANDIDATES) -> Iterable[float]:
    """start, one step up, one down, two up, …"""
    return (float(np.float32(start + step * ((i + 1) // 2) * (1 if i % 2 else -1))) for i in range(count))


def first_clear(
    candidates: Iterable[float],
    clearance: Callable[[float], float],
    agrees: Callable[[float], bool] = lambda candidate: True,
    margin: float = MARGIN,
    changes: Changes = no_tables,
) -> float:
    """The first candidate with a clearance of `margin` for which kernels agree; if there is none, the clearest one.

    Of it and the FURTHER ones behind it, the first that changes fewest codes of tables.
    """
    best, widest = 0.0, -np.inf
    candidates = iter(candidates)
    for candidate in candidates:
        clear = clearance(candidate)
        if clear >= margin and agrees(candidate):
            break
        if clear > widest:
            best, widest = candidate, clear
    else:
        return best
    best, fewest = candidate, changes(candidate)
    for candidate in islice(candidates, FURTHER):
        if not fewest:
            break
        if clearance(candidate) >= margin and (count := changes(candidate)) < fewest and agrees(candidate):
            best, fewest = candidate, count
    return best
