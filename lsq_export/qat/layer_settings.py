"""Wishes for single layers: settings that differ from those of the whole network, by patterns over the layers' names.

    layers = {"features.0*": 8, "classifier": {"weight_bits": 8, "activation_bits": 4}, "head": "float"}

A number is the bits of both, weight and input.

Patterns are those of file names (fnmatch): * is any text, dots too, ? one character, [ab] one of these. Where several
match a layer, later ones win, setting by setting.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

from calib.errors import QuantizationError

ActivationGrid = Literal["unsigned-symmetric", "signed-symmetric", "signed-asymmetric", "unsigned-asymmetric"]
Granularity = Literal["tensor", "channel"]
Offset = Literal["real", "integer", "container"]
ACTIVATION_GRIDS: tuple[ActivationGrid, ...] = get_args(ActivationGrid)  # the LSQ+ configurations 1-4, in this order
GRANULARITIES: tuple[Granularity, ...] = get_args(Granularity)
OFFSETS: tuple[Offset, ...] = get_args(Offset)
FLOAT = "float"
BITS = ("weight_bits", "activation_bits")  # what a number alone wishes
LayerWish = Mapping[str, Any] | str | int
NAMED = 8  # names that an error lists
CHOICES: Mapping[str, Sequence[str]] = {
    "activation_grid": ACTIVATION_GRIDS,
    "weight_granularity": GRANULARITIES,
    "offset": OFFSETS,
}


@dataclass(frozen=True, kw_only=True)
class LayerSettings:
    """How one layer is quantized. activation_bits, activation_grid and offset are those of its input."""

    weight_bits: int
    activation_bits: int
    activation_grid: ActivationGrid
    weight_granularity: Granularity
    offset: Offset


SETTINGS = tuple(LayerSettings.__dataclass_fields__)


def check_bits(option: str, bits: object, *, or_none: bool = False) -> None:
    """Errors (QuantizationError): not 2 to 8. or_none: None is good, too."""
    if bits is None and or_none:
        return
    if isinstance(bits, bool) or not isinstance(bits, int) or not 2 <= bits <= 8:
        raise QuantizationError(f"{option}={bits!r}: use 2 to 8{', or None' if or_none else ''}")


def check_choice(option: str, value: object, allowed: Sequence[str]) -> None:
    """Errors (QuantizationError): none of these."""
    if value not in allowed:
        raise QuantizationError(f"{option}={value!r}: use one of {', '.join(allowed)}")


def checked(layers: object) -> dict[str, dict[str, Any] | str]:
    """Wishes as plain values of their own. Errors (QuantizationError): name the pattern, the setting and the value."""
    if not isinstance(layers, Mapping):
        raise QuantizationError(
            f'layers={layers!r}: use a table of names or patterns, such as {{"features.0*": {{"weight_bits": 8}}}}'
        )
    return {_pattern(pattern): _wish(f"layers[{pattern!r}]", wish) for pattern, wish in layers.items()}


def _pattern(pattern: object) -> str:
    if not isinstance(pattern, str):
        raise QuantizationError(f"layers: {pattern!r} is no name of a layer and no pattern; use a string")
    return pattern


def _wish(where: str, wish: object) -> dict[str, Any] | str:
    if wish == FLOAT:
        return FLOAT
    if isinstance(wish, int):
        check_bits(where, wish)
        return dict.fromkeys(BITS, wish)
    if not isinstance(wish, Mapping):
        raise QuantizationError(f'{where}={wish!r}: use "float", a number of bits, or a table of {", ".join(SETTINGS)}')
    if not wish:
        raise QuantizationError(f'{where} is empty: give it some of {", ".join(SETTINGS)}, or "float"')
    for setting, value in wish.items():
        if setting not in SETTINGS:
            nested = "; a name with dots needs quotes" if isinstance(value, Mapping) else ""
            raise QuantizationError(
                f'{where}: unknown setting {setting!r}: use {", ".join(SETTINGS)}, or "float" as a whole{nested}'
            )
        if setting in CHOICES:
            check_choice(f"{where}: {setting}", value, CHOICES[setting])
        else:
            check_bits(f"{where}: {setting}", value)
    return dict(wish)


def settings_of(name: str, common: LayerSettings, layers: Mapping[str, LayerWish]) -> LayerSettings | None:
    """Those of one layer; None where it stays float. common: what holds where nothing is wished."""
    wished: dict[str, Any] = {}
    stays_float = False
    for pattern, wish in layers.items():
        if not fnmatchcase(name, pattern):
            continue
        stays_float = wish == FLOAT
        if isinstance(wish, Mapping):
            wished |= wish
    return None if stays_float else replace(common, **wished)


def check_patterns(names: Iterable[str], layers: Mapping[str, LayerWish]) -> None:
    """Errors (QuantizationError): a pattern that matches none of these names, with names that are near to it."""
    names = list(names)
    for pattern in layers:
        if any(fnmatchcase(name, pattern) for name in names):
            continue
        near = difflib.get_close_matches(pattern.strip("*?."), names, n=3, cutoff=0.5)
        meant = f" (did you mean {' or '.join(near)}?)" if near else ""
        listed = ", ".join(name or "''" for name in names[:NAMED])
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        raise QuantizationError(
            f"layers[{pattern!r}] matches no layer{meant}: the layers are {listed}{more}; "
            "lsq_export.layer_names(model) lists them"
        )
