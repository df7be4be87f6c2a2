"""When a quantizer has left its range: two records of its use, compared against thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from calib.errors import QuantizationError

from .range_use import TAIL, RangeUse

# Noise below this share of s²/12 counts as this much: an error of float rounding may grow a thousandfold and still be
# none.
NEGLIGIBLE = 0.01


@dataclass(frozen=True)
class Thresholds:
    """When a quantizer has left its range; any one is enough.

    clipped   the share clipped on one side has grown by more than this (0-1) and by more than half
    codes     the codes in use are at most this share of those in calibration: at 0.5 a bit lies idle
    error     the relative error (mse / variance of the signal) is more than this many times that of calibration: 4 are
              6 dB, a bit. Clipped elements count where they are more than TAIL (0.1 %) of all; otherwise, at 8 bits, a
              few outliers would be a drift
    """

    clipped: float = 0.01
    codes: float = 0.5
    error: float = 4.0

    def __post_init__(self) -> None:
        for what, value, low, high in (
            ("clipped", self.clipped, 0, 1),
            ("codes", self.codes, 0, 1),
            ("error", self.error, 1, float("inf")),
        ):
            if not low <= value <= high:
                raise QuantizationError(f"threshold {what}={value}: use a number from {low} to {high}")


@dataclass(frozen=True)
class Drift:
    """One quantizer, in calibration and now.

    error: the relative error now as a multiple of that in calibration, see `Thresholds`; None where a signal is
    constant.
    reasons: why the quantizer has left its range; empty if it has not.
    """

    name: str
    before: RangeUse
    now: RangeUse
    error: float | None
    reasons: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "name": self.name,
            "reasons": list(self.reasons),
            "error": self.error,
            "before": self.before.to_dict(),
            "now": self.now.to_dict(),
        }


def compare(
    before: Mapping[str, RangeUse], now: Mapping[str, RangeUse], thresholds: Thresholds | None = None
) -> tuple[Drift, ...]:
    """Every quantizer of `now`, in its order. Errors (QuantizationError): the two are not of one network."""
    if unlike := [
        name
        for name in {**now, **before}
        if name not in before or name not in now or before[name].bits != now[name].bits
    ]:
        raise QuantizationError(
            f"{unlike[0]}: the record of calibration is of another network (other names or bits): measure it on this "
            "one"
        )
    return tuple(_compare(before[name], use, thresholds or Thresholds()) for name, use in now.items())


def _compare(before: RangeUse, now: RangeUse, limits: Thresholds) -> Drift:
    reasons = []
    for side, was, is_now in (("below", before.below, now.below), ("above", before.above, now.above)):
        if is_now - was > max(limits.clipped, was / 2):
            reasons.append(f"clips {is_now:.1%} {side} ({was:.1%} in calibration)")
    if now.codes <= limits.codes * before.codes:
        reasons.append(f"uses {now.codes} of {2**now.bits} codes ({before.codes} in calibration)")
    error = None
    if before.relative_error is not None and now.relative_error is not None:
        least = NEGLIGIBLE * before.scale**2 / 12
        outliers = sum(mse for share, mse in ((now.below, now.mse_below), (now.above, now.mse_above)) if share <= TAIL)
        error = max(now.mse - outliers, least) / now.std**2 / (max(before.mse, least) / before.std**2)
        if error > limits.error:
            reasons.append(f"error {error:.1f} × that of calibration")
    return Drift(now.name, before, now, error, tuple(reasons))
