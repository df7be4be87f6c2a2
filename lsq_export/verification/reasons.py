"""Why codes differ, as far as it can be established; `cause.py` establishes it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from lsq_export.qat.origins import TRAINED, before_the_fold


class Reason(str, Enum):
    """Why the codes of one element differ.

    TIE: the real value lies next to a rounding tie, nearer than float32 arithmetic (against the folded model), or the
    rounded bias (E6) and a shift that keeps sums clear of ties (both against the trained model), can move it.
    BORDER: a tap of the convolution reads the padding, for which its bias carries β - β' as well (E4, E5). EDGE:
    between the learned grid and the learned grids before it lies one that training did not learn, of a residual sum for
    example. GRID: the container's grid is not the trained one: an 8-bit grid that moved onto an integer zero point, or
    an input stretched by the integer fold. UNKNOWN: none of these.
    """

    TIE = "tie"
    BORDER = "border"
    EDGE = "edge"
    GRID = "grid"
    UNKNOWN = "unknown"

    def __str__(self) -> str:
        return self.value


_EXPLAINED = {
    Reason.TIE: "the value lies next to a rounding tie, and a rounded bias or a scale moved clear of ties carries it "
    "over",
    Reason.BORDER: "padding is zero as β′, not β, has it",
    Reason.EDGE: "before it lies an 8-bit grid that {before} did not have",
    Reason.GRID: "the file's grid is not the {origin} one: it moved onto an integer zero point",
    Reason.UNKNOWN: "none of these could be shown",
}

_IN_SHORT = {
    Reason.TIE: "values next to rounding ties",
    Reason.BORDER: "padding next to them has another zero than in {before}",
    Reason.EDGE: "an 8-bit grid before it that {before} did not have",
    Reason.GRID: "its grid moved onto an integer zero point",
    Reason.UNKNOWN: "none of the known reasons",
}


def explained(origin: str = TRAINED) -> dict[Reason, str]:
    """A sentence for each reason. origin: of the network's grids (`qat/origins.py`)."""
    return _said(_EXPLAINED, origin)


def in_short(origin: str = TRAINED) -> dict[Reason, str]:
    """The same in a few words."""
    return _said(_IN_SHORT, origin)


def _said(words: Mapping[Reason, str], origin: str) -> dict[Reason, str]:
    return {reason: text.format(before=before_the_fold(origin), origin=origin) for reason, text in words.items()}
