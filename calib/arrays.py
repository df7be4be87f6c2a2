"""Inputs as numpy arrays: one [N, …], or {name: array} where a network takes several. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

Arrays: TypeAlias = "np.ndarray | Mapping[str, np.ndarray]"


def count_of(x: Arrays) -> int:
    """How many samples arrays hold."""
    return len(next(iter(x.values()))) if isinstance(x, Mapping) else len(x)
