"""What libraries keep of a learned grid, and the grid in it: a step, a range, a largest value, a threshold.

Each function here makes one way to read the tensors of a quantizer: values, what is asked -> `Stored`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .observed import observed_codes

Ranges = Literal["linear", "log2", "power-of-two"]
Values = Mapping[str, Any]  # {last part of the name: array}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a file may lack. weight: the grid is of a weight, which is signed unless it is said. None: not known.

    narrow: the lowest of signed codes is not used. ranges: what Brevitas' ranges are trained as.
    """

    bits: int | None = None
    signed: bool | None = None
    weight: bool = False
    narrow: bool = False
    ranges: Ranges | None = None

    def codes(self, bits: int | None = None) -> tuple[int, int] | None:
        """(first, last) code, of so many bits where the file says it."""
        bits, signed = (self.bits if bits is None else bits), self.signed
        signed = True if signed is None and self.weight else signed
        return None if bits is None or signed is None else code_limits(bits, signed, self.narrow)


def code_limits(bits: int, signed: bool, narrow: bool = False) -> tuple[int, int]:
    """(first, last) code. narrow: without the lowest of signed ones."""
    return (-(2 ** (bits - 1)) + narrow, 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What a quantizer of a checkpoint says. low, high: the range that it stands for, where it is kept as one. scale,
    zero_point: arrays [1] or [C]; the zero point may be a real number. bits: None where the file does not say, and
    nobody did. codes: the first and the last one, likewise.
    """

    scale: np.ndarray | None = None
    zero_point: np.ndarray | None = None
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    bits: int | None = None
    codes: tuple[int, int] | None = None


RUNNING = "scaling_impl.runtime_stats.running_stats"  # Brevitas' ranges that are means, not trained
Reading = Callable[[Values, Asked], Stored]


def _flat(value: Any) -> np.ndarray:
    return np.asarray(value, np.float64).reshape(-1)


def steps(scale: str, zero_point: str) -> Reading:
    """The scale and the zero point as they are. What an observer saw beside them tells the codes."""

    def grid(values: Values, asked: Asked) -> Stored:
        s, zero = _flat(values[scale]), values.get(zero_point)
        z = None if zero is None else _flat(zero)
        codes = observed_codes(values, s, z, asked.weight) or asked.codes()
        bits = asked.bits if codes is None else (codes[1] - codes[0]).bit_length()
        return Stored(scale=s, zero_point=z, bits=bits, codes=codes)

    return grid


def step_and_offset(scale: str, offset: str) -> Reading:
    """LSQ+: a value is s·q + β, so that the zero point is -β / s, a real number."""

    def grid(values: Values, asked: Asked) -> Stored:
        s, beta = _flat(values[scale]), values.get(offset)
        zero = None if beta is None else 0.0 - _flat(beta) / s
        return Stored(scale=s, zero_point=zero, bits=asked.bits, codes=asked.codes())

    return grid


def _range(low: np.ndarray, high: np.ndarray, bits: int | None, beyond: int = 0) -> Stored:
    """Unsigned codes from low to high: s = (high - low) / (2^b - 1 + beyond), z = round(-low / s)."""
    if bits is None:
        return Stored(low=low, high=high)
    scale = (high - low) / (2**bits - 1 + beyond)
    zero = np.round(0.0 - low / scale)
    return Stored(scale=scale, zero_point=zero, low=low, high=high, bits=bits, codes=code_limits(bits, False))


def brevitas(values: Values, asked: Asked) -> Stored:
    """A range and its minimum; signed ones and weights have the largest magnitude in place of the range.

    A power of two is one code beyond the last.
    """
    stored = values["scaling_impl.value"] if "scaling_impl.value" in values else values[RUNNING]
    most, minimum = in_ranges(_flat(stored), asked.ranges), values.get("zero_point_impl.value")
    beyond = int(asked.ranges == "power-of-two")
    if minimum is not None:
        return _range(low := _flat(minimum), low + most, asked.bits, beyond)
    if not (asked.signed or (asked.weight and asked.signed is None)):
        found = _range(np.zeros(1), most, asked.bits, beyond)
        return found if asked.signed is False else Stored(**{**vars(found), "codes": None})
    if asked.bits is None:
        return Stored(low=0.0 - most, high=most)
    return Stored(low=0.0 - most, high=most, bits=asked.bits, **of_magnitude(most, asked.bits, asked))


def in_ranges(stored: np.ndarray, ranges: Ranges | None) -> np.ndarray:
    """What Brevitas makes of a number that it trains."""
    if ranges is None or ranges == "linear":
        return stored if ranges is None else np.asarray(np.abs(stored))
    return np.asarray(np.exp2(stored if ranges == "log2" else np.ceil(stored)))


def of_magnitude(most: np.ndarray, bits: int, asked: Asked) -> dict[str, Any]:
    """scale and codes of Brevitas' signed grids."""
    first, last = code_limits(bits, True, narrow=asked.narrow or asked.weight)
    return {"scale": most / (2 ** (bits - 1) if asked.ranges == "power-of-two" else -first), "codes": (first, last)}


def nncf_range(values: Values, asked: Asked) -> Stored:
    """The range is moved first, so that 0 is one of its values: of the two ways, the one that keeps more."""
    known = int(_flat(values["_num_bits"])[0]) if "_num_bits" in values else asked.bits
    low = np.minimum(_flat(values["input_low"]), 0.0)
    high = np.maximum(_flat(values["input_low"]) + np.abs(_flat(values["input_range"])), 0.0)
    if known is None:
        return Stored(low=low, high=high)
    top = 2**known - 1
    zero = np.round(-low * top / (high - low))
    inside = (zero > 0) & (zero < top)
    kept = np.where(inside, zero, 1)  # where 0 is an end there is nothing to move
    lower, higher = high * kept / (kept - top), low * (kept - top) / kept
    wider = high - lower > higher - low
    return _range(
        np.where(inside & wider, lower, np.where(zero == 0, 0.0, low)),
        np.where(inside & ~wider, higher, np.where(zero == top, 0.0, high)),
        known,
    )


def nncf_maximum(values: Values, asked: Asked) -> Stored:
    """The largest magnitude, which is the last code; with 8 bits the lowest code, beyond it, is not used."""
    known = int(_flat(values["_num_bits"])[0]) if "_num_bits" in values else asked.bits
    most, signed = np.abs(_flat(values["scale"])), bool(_flat(values["signed_tensor"])[0])
    if known is None:
        return Stored(low=0.0 - most, high=most)
    first, last = code_limits(known, signed, narrow=asked.weight and known == 8)
    zero = np.zeros_like(most)
    return Stored(scale=most / last, zero_point=zero, low=0.0 - most, high=most, bits=known, codes=(first, last))


def aimet(values: Values, asked: Asked) -> Stored:
    """Both ends; the state beside them has the codes."""
    low, high = _flat(values["min"]), _flat(values["max"])
    state = values.get("_extra_state")
    if not isinstance(state, Mapping) or not {"qmin", "qmax"} <= state.keys():
        if not asked.weight:
            return _range(low, high, asked.bits)
        state = dict(zip(("qmin", "qmax"), asked.codes() or (0, 0), strict=True), symmetric=True)
        if asked.bits is None:
            return Stored(low=low, high=high)
    first, last = int(state["qmin"]), int(state["qmax"])
    scale = (high - low) / (last - first)
    middle = np.full_like(scale, round((first + last) / 2))  # 8 of 0 … 15, 0 of -8 … 7
    zero = middle if bool(state.get("symmetric", False)) else first - np.round(low / scale)
    bits = (last - first + 1).bit_length() - 1
    return Stored(scale=scale, zero_point=zero, low=low, high=high, bits=bits, codes=(first, last))


def modelopt(values: Values, asked: Asked) -> Stored:
    """The largest magnitude: s = largest / last code, about 0 or about a real offset."""
    most, middle = _flat(values["_amax"]), _flat(values.get("_bias_value", 0.0))
    if asked.bits is None:
        return Stored(low=middle - most, high=middle + most)
    codes = asked.codes()
    _, last = codes or code_limits(asked.bits, True)
    scale = most / last
    return Stored(
        scale=scale,
        zero_point=0.0 - middle / scale,
        low=middle - most,
        high=middle + most,
        bits=asked.bits,
        codes=codes,
    )


def threshold(values: Values, asked: Asked) -> Stored:
    """Signed or unsigned codes up to the threshold, which is one code beyond the last."""
    (most,) = (_flat(value) for value in values.values())
    codes = asked.codes()
    if codes is None:
        return Stored(high=most, bits=asked.bits)
    scale = most / (codes[1] + 1)
    return Stored(scale=scale, zero_point=np.zeros_like(scale), high=most, bits=asked.bits, codes=codes)
