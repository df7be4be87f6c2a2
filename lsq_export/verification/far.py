"""A fold that is far below the yardstick: by how much, and the tensor where most of it begins, with the reason.

The yardstick (`yardstick.py`) is the trained model against itself on inputs × 1.0001. All promises hold for a network
that is far from it, since what a fold costs is a number; so the verdict says it, and parity.json. A network of 8 bits
hardly moves with its inputs, and every grid that export adds lies behind its yardstick: an error below what 8 bits cost
by themselves is small, and no matter for the verdict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from calib.tables import decibel
from lsq_export.qat.origins import TRAINED, grids_called

from .layer_parity import LayerParity
from .numbers import codes_differ
from .reasons import Reason, in_short

NUDGE = 1e-4  # relative
FAR = 3.0  # dB
SMALL = 30.0  # dB below the outputs: quantizing to 8 bits costs real networks more (docs/benchmarks/real.md)
LIMIT = -20 * math.log10(NUDGE)  # dB: so much the noise on the inputs themselves is; no yardstick asks for more
AT_THE_END = "no code of a {} grid: what comes after the last one, an 8-bit grid of the output or float operators"


@dataclass(frozen=True, kw_only=True)
class Far:
    """behind_db: by how much the error is larger than the yardstick's.

    tensor: of which most codes differ from the trained ones on the same inputs, place: what makes it in the user's
    model, differing: the share of its codes, largest: by so much at most, reason: of most of these; None where all
    codes are the trained ones.
    """

    behind_db: float
    tensor: str | None = None
    place: str | None = None
    differing: float = 0.0
    largest: int = 0
    reason: Reason | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for parity.json."""
        return {**asdict(self), "reason": None if self.reason is None else str(self.reason)}

    def said(self, origin: str = TRAINED) -> str:
        """In words. origin: of the network's grids (`qat/origins.py`)."""
        where = AT_THE_END.format(grids_called(origin))
        if self.tensor is not None and self.reason is not None:
            named = f"{self.tensor}, {self.place}" if self.place else self.tensor
            where = f"{named} ({codes_differ(self.differing, self.largest)}; {in_short(origin)[self.reason]})"
        return f"FAR FROM EXACT, {decibel(self.behind_db)} behind the yardstick; most at {where}"


def is_small(folded: float) -> bool:
    """Whether an error (SQNR, in dB) is below what 8 bits cost by themselves."""
    return folded >= SMALL


def behind_db(folded: float, nudged: float) -> float:
    """dB by which the fold (SQNR `folded`) is further from the trained model than the yardstick; 0 if it is nearer.

    Also where the yardstick is no noise at all (infinite): then it flipped no code of these images, by chance.
    """
    return max(0.0, nudged - folded) if nudged <= LIMIT else 0.0


def far_of(folded: float, nudged: float, layers: Sequence[LayerParity], places: Mapping[str, str]) -> Far | None:
    """None where the fold is not far. layers: folded against trained. places: {tensor: what makes it}."""
    gap = behind_db(folded, nudged)
    if not gap > FAR:
        return None
    worst = max(layers, key=lambda layer: layer.differing, default=None)
    if worst is None or not worst.differing:
        return Far(behind_db=gap)
    reason = max(worst.reasons, key=lambda reason: worst.reasons[reason], default=Reason.UNKNOWN)
    return Far(
        behind_db=gap,
        tensor=worst.name,
        place=places.get(worst.name),
        differing=worst.differing,
        largest=worst.largest,
        reason=reason,
    )
