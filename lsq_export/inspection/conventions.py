"""How libraries keep learned grids in a state_dict: one entry for each way, by the names of its tensors.

A quantizer is a prefix with the tensors that its way asks for. `grid` turns them into a scale and a zero point, in the
library's own parametrization: a step, a range, a largest value or a threshold. What a file does not say (mostly the bit
width) is None, and has to come from the user. Versions: torch 2.13, torchao 0.18, Brevitas 0.13.4, NNCF 3.4.0,
AIMET 2.42, ModelOpt 0.47.0, Quark 0.13, MCT 2.6.1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Values = Mapping[str, Any]  # {last part of the name: array}


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What a quantizer of a checkpoint says. low, high: the range that it stands for, where it is kept as one. scale,
    zero_point: arrays [1] or [C]; the zero point may be a real number. bits: None where the file does not say.
    """

    scale: np.ndarray | None = None
    zero_point: np.ndarray | None = None
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    bits: int | None = None


@dataclass(frozen=True, kw_only=True)
class Convention:
    """One way. name: of the library. needs: what the last parts of its tensors' names are, all of them; takes: what may
    be there as well. place: matches the prefix, its group `place` is the module (or operator) and `role` what is
    quantized there. stored: the parametrization in words. grid(values, bits): what the tensors say.
    """

    name: str
    stored: str
    place: re.Pattern[str]
    needs: tuple[str, ...]
    grid: Callable[[Values, int | None], Stored]
    takes: tuple[str, ...] = ()


def _flat(value: Any) -> np.ndarray:
    return np.asarray(value, np.float64).reshape(-1)


def _step(scale: str, zero_point: str) -> Callable[[Values, int | None], Stored]:
    """The scale and the zero point as they are."""

    def grid(values: Values, bits: int | None) -> Stored:
        zero = values.get(zero_point)
        return Stored(scale=_flat(values[scale]), zero_point=None if zero is None else _flat(zero), bits=bits)

    return grid


def _step_and_offset(scale: str, offset: str) -> Callable[[Values, int | None], Stored]:
    """LSQ+: a value is s·q + β, so that the zero point is -β / s, a real number."""

    def grid(values: Values, bits: int | None) -> Stored:
        s, beta = _flat(values[scale]), values.get(offset)
        return Stored(scale=s, zero_point=None if beta is None else 0.0 - _flat(beta) / s, bits=bits)

    return grid


def _range(low: np.ndarray, high: np.ndarray, bits: int | None) -> Stored:
    """Unsigned codes from low to high: s = (high - low) / (2^b - 1), z = round(-low / s)."""
    if bits is None:
        return Stored(low=low, high=high)
    scale = (high - low) / (2**bits - 1)
    return Stored(scale=scale, zero_point=np.round(0.0 - low / scale), low=low, high=high, bits=bits)


def _brevitas(values: Values, bits: int | None) -> Stored:
    low = _flat(values.get("zero_point_impl.value", 0.0))
    return _range(low, low + _flat(values["scaling_impl.value"]), bits)


def _nncf_range(values: Values, bits: int | None) -> Stored:
    """The range is moved first, so that 0 is one of its values: of the two ways, the one that keeps more."""
    known = int(_flat(values["_num_bits"])[0]) if "_num_bits" in values else bits
    low = np.minimum(_flat(values["input_low"]), 0.0)
    high = np.maximum(_flat(values["input_low"]) + _flat(values["input_range"]), 0.0)
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


def _aimet(values: Values, bits: int | None) -> Stored:
    low, high = _flat(values["min"]), _flat(values["max"])
    state = values.get("_extra_state")
    if not isinstance(state, Mapping) or not {"qmin", "qmax"} <= state.keys():
        return _range(low, high, bits)
    first, last = int(state["qmin"]), int(state["qmax"])
    scale = (high - low) / (last - first)
    zero = np.zeros_like(scale) if bool(state.get("symmetric", False)) else first - np.round(low / scale)
    return Stored(scale=scale, zero_point=zero, low=low, high=high, bits=(last - first + 1).bit_length() - 1)


def _largest(name: str, bias: str = "") -> Callable[[Values, int | None], Stored]:
    """The largest magnitude of signed codes: s = largest / (2^(b - 1) - 1), about 0 or a real offset."""

    def grid(values: Values, bits: int | None) -> Stored:
        known = int(_flat(values["_num_bits"])[0]) if "_num_bits" in values else bits
        most, middle = _flat(values[name]), _flat(values.get(bias, 0.0))
        if known is None:
            return Stored(low=middle - most, high=middle + most)
        scale = most / (2 ** (known - 1) - 1)
        return Stored(scale=scale, zero_point=0.0 - middle / scale, low=middle - most, high=middle + most, bits=known)

    return grid


def _threshold(values: Values, bits: int | None) -> Stored:
    """Signed or unsigned codes up to the threshold: the file does not say which, so that there is no scale."""
    (most,) = (_flat(value) for value in values.values())
    return Stored(high=most, bits=bits)


ANY = r"(?P<place>.*?)"
LSQ_STEPS = ("s", "scale", "step", "step_size", "alpha", "act_alpha", "wgt_alpha", "w_alpha", "a_alpha")
LSQ_OFFSETS = ("beta", "act_beta", "offset", "a_beta", "w_beta")

CONVENTIONS: tuple[Convention, ...] = (
    Convention(
        name="lsq-export",
        stored="scale, offset",
        place=re.compile(ANY + r"\.?(?P<role>input_quantizer|parametrizations\.weight\.0|edges\..+)"),
        needs=("scale", "offset", "initialized"),
        grid=_step_and_offset("scale", "offset"),
    ),
    Convention(
        name="torch.ao / torchao",
        stored="scale, zero point",
        place=re.compile(ANY + r"\.?(?P<role>weight_fake_quant|activation_post_process(_\d+)?)"),
        needs=("scale", "zero_point"),
        grid=_step("scale", "zero_point"),
    ),
    Convention(
        name="torchao, converted",
        stored="scale, zero point",
        place=re.compile(r"(?P<place>_frozen_param\d+)(?P<role>)"),
        needs=("scale", "zero_point"),
        grid=_step("scale", "zero_point"),
    ),
    Convention(
        name="Brevitas",
        stored="range, minimum",
        place=re.compile(ANY + r"\.(?P<role>act_quant|weight_quant)\.fused_activation_quant_proxy\.tensor_quant"),
        needs=("scaling_impl.value",),
        takes=("zero_point_impl.value",),
        grid=_brevitas,
    ),
    Convention(
        name="NNCF",
        stored="input_low, input_range",
        place=re.compile(r"(?:.*\.)?__nncf_hooks\.(?P<role>post_hooks|pre_hooks)\.(?P<place>.+?)__\d+\.\d+"),
        needs=("input_low", "input_range"),
        takes=("_num_bits",),
        grid=_nncf_range,
    ),
    Convention(
        name="NNCF",
        stored="maximum",
        place=re.compile(r"(?:.*\.)?__nncf_hooks\.(?P<role>post_hooks|pre_hooks)\.(?P<place>.+?)__\d+\.\d+"),
        needs=("scale", "signed_tensor"),
        takes=("_num_bits",),
        grid=_largest("scale"),
    ),
    Convention(
        name="AIMET",
        stored="min, max",
        place=re.compile(ANY + r"\.?(?P<role>(?:input|output|param)_quantizers\.\w+)"),
        needs=("min", "max"),
        takes=("_extra_state",),
        grid=_aimet,
    ),
    Convention(
        name="ModelOpt",
        stored="amax",
        place=re.compile(ANY + r"\.?(?P<role>(?:input|output|weight|\w+_bmm)_quantizer)"),
        needs=("_amax",),
        takes=("_bias_value",),
        grid=_largest("_amax", "_bias_value"),
    ),
    Convention(
        name="Quark",
        stored="scale, zero point",
        place=re.compile(ANY + r"\.?(?P<role>_(?:input|output|weight|bias)_quantizer|fake_quantizer_\d+)"),
        needs=("scale", "zero_point"),
        grid=_step("scale", "zero_point"),
    ),
    Convention(
        name="MCT",
        stored="threshold",
        place=re.compile(r"(?P<place>.+?)_activation_holder_quantizer(?P<role>)"),
        needs=("activation_holder_quantizer_out",),
        grid=_threshold,
    ),
    Convention(
        name="MCT",
        stored="threshold",
        place=re.compile(r"(?P<place>.+)(?P<role>)"),
        needs=("weight_ptq_threshold_tensor",),
        grid=_threshold,
    ),
    *(
        Convention(
            name="LSQ+",
            stored=f"{step}, {offset}",
            place=re.compile(ANY + r"\.?(?P<role>\w*)"),
            needs=(step, offset),
            grid=_step_and_offset(step, offset),
        )
        for step in LSQ_STEPS
        for offset in LSQ_OFFSETS
    ),
    *(
        Convention(
            name="LSQ",
            stored=step,
            place=re.compile(r"(?P<place>.*?)\.?(?P<role>\w*(?:quant|lsq|fq)\w*(?:\.\w+)?)"),
            needs=(step,),
            grid=_step(step, ""),
        )
        for step in LSQ_STEPS
    ),
)
