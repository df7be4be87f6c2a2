"""What passes between the steps: a quantizer as a file has it, its place in the network, and the grid itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lsq_export.inspection.parametrizations import Asked, Stored

Role = Literal["weight", "input", "output", "activation"]
Steps = Literal["divided", "multiplied", "ranged"]  # w / s; w · (1/s); (w - low) · (levels - 1) / range - zero
WIDEST = 256  # codes that 8 bits have
ROUNDINGS = ("half-even", "half-away")


@dataclass(frozen=True, kw_only=True)
class Raw:
    """A quantizer in a file.

    name     what messages call it: what its tensors' names begin with
    place    where it is, as the library says it
    role     what is quantized there; "activation" where names do not say which
    used     the tensors in the file that are its own
    grid     what is asked -> what the file says
    whole    a zero point that is no integer is rounded before it is used
    rounding of values that lie between two codes
    steps    how a weight becomes steps of the grid, in float32: of a largest weight of 63.5 steps it decides
    shape    of the tensor that has the scale; () where there is none
    """

    name: str
    place: str
    role: Role
    used: tuple[str, ...]
    grid: Callable[[Asked], Stored]
    whole: bool = False
    rounding: str = "half-even"
    steps: Steps = "divided"
    bits: int | None = None
    signed: bool | None = None
    narrow: bool | None = None
    shape: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Learned:
    """A grid at its place: x̂ = s·q + β, q = clamp(round((x - β)/s), first, last) (E1).

    scale, offset: float64, [] or [C]. first, last: int64, likewise. β is zero wherever zero is a code: a zero point z
    that is an integer is in the codes, which then are those of the library less z, to the last tie. inputs: the axis of
    a layer's own weight that the scales are along, if it is not that of its outputs.
    """

    raw: Raw
    scale: np.ndarray
    offset: np.ndarray
    first: np.ndarray
    last: np.ndarray
    inputs: int | None = None

    @property
    def levels(self) -> int:
        """How many codes there are."""
        return int((self.last - self.first).max()) + 1


def learned(raw: Raw, stored: Stored) -> Learned:
    """stored: with a scale and with codes."""
    assert stored.scale is not None and stored.codes is not None
    scale = _one_or_all(stored.scale)
    zero = _one_or_all(np.zeros(1) if stored.zero_point is None else stored.zero_point)
    first, last = stored.codes
    if raw.whole:
        zero = np.rint(zero).clip(first, last)
    offset = np.where(zero == np.rint(zero), 0.0, 0.0 - zero * scale)
    inside = np.where(offset == 0, zero, 0.0).astype(np.int64)
    return Learned(raw=raw, scale=scale, offset=offset, first=first - inside, last=last - inside)


def _one_or_all(values: np.ndarray) -> np.ndarray:
    return values.reshape(()) if values.size == 1 else values.reshape(-1)
