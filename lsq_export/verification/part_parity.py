"""What is found out about one part of an output (output_parts.py), as data, and what is said of lost ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lsq_export.qat.origins import TRAINED

LOST = 1.0  # dB: a part that became a constant, its mean, has 0
STEADY = 10.0  # dB: a part that the yardstick moves by more than that is lost in the trained model already
NAMED = 3  # lost channels in a line


@dataclass(frozen=True, kw_only=True)
class PartParity:
    """One part of an output.

    output, part: their names. channel: of the output of one layer; None of a part that was put together with others.
    sqnr_db: variance of the trained model's values against the folded model's mean squared error. nudged_sqnr_db: the
    same of the trained model on inputs that are larger by NUDGE (yardstick.py). elements: that were compared.
    """

    output: str
    part: str
    channel: int | None
    elements: int
    sqnr_db: float
    nudged_sqnr_db: float

    @property
    def lost(self) -> bool:
        """Its error is as large as what varies in it, and the fold made it so. Of one number nothing varies."""
        return self.elements > 1 and self.sqnr_db < LOST and self.nudged_sqnr_db > STEADY


def lost_parts(parts: Sequence[PartParity], origin: str = TRAINED) -> Iterator[str]:
    """One line for each part that is lost, with what is to be done."""
    for part in parts:
        if part.lost and part.channel is None:
            yield (
                f"{part.output}: its part {part.part} is lost: its error is as large as what varies in it (SQNR "
                f"{part.sqnr_db:.1f} dB, where the {origin} model has {part.nudged_sqnr_db:.1f} dB); scale the parts "
                "of this output alike, or return them one by one"
            )


def lost_channels(parts: Sequence[PartParity]) -> str:
    """That channels of outputs are lost, in words; "" where none is."""
    lost = [part for part in parts if part.lost and part.channel is not None]
    if not lost:
        return ""
    first = ", ".join(f"{part.output}[:, {part.channel}]" for part in lost[:NAMED])
    more = f" and {len(lost) - NAMED} more" if len(lost) > NAMED else ""
    return f"channels of outputs LOST beside larger ones: {first}{more}"
