"""A mapping file (TOML or JSON): what a checkpoint does not say, and what its names mean.

    bits = 4                               # or weight_bits, activation_bits
    activations = "unsigned"               # or "signed": which codes they have
    signed = ["silu", "add"]               # quantizers (shell patterns) that are otherwise; unsigned likewise
    [places]
    q_in = "x"                             # a quantizer's name in the checkpoint = a module, an operator, an input
    [[quantizers]]                         # of code that no library is known for
    scale = "{layer}.quan_a_fn.s"          # names of tensors, or numbers; {layer} is a module of the network
    offset = "{layer}.quan_a_fn.beta"
    role = "input"

Unknown keys are errors: a word that is misspelled would otherwise be ignored.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from calib.errors import QuantizationError, one_line
from lsq_export.files import strict_json
from lsq_export.qat.layer_files import toml_module

from .learned import ROUNDINGS

ROLES = ("weight", "input", "output")
CHOICES: dict[str, tuple[str, ...]] = {
    "activations": ("unsigned", "signed"),
    "weights": ("channel", "tensor"),
    "bias": ("float", "int32"),
    "thresholds": ("free", "power-of-two"),
    "ranges": ("linear", "log2", "power-of-two"),
    "norms": ("apart", "scaled"),
    "role": ROLES,
    "rounding": ROUNDINGS,
}
BITS = ("bits", "weight_bits", "activation_bits")
LISTS = ("unsigned", "signed", "narrow", "skip", "float")


Given = str | float | Sequence[float] | None  # the name of a tensor, or numbers


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A kind of quantizer. scale … range: a pattern of names of tensors, or a number. layer: where it is, {layer} or
    the name of a module or operator. whole: the code rounds its zero point before it uses it.
    """

    role: str
    layer: str = "{layer}"
    scale: Given = None
    zero_point: Given = None
    offset: Given = None
    maximum: Given = None
    low: Given = None
    high: Given = None
    range: Given = None
    bits: int | None = None
    signed: bool | None = None
    narrow: bool = False
    whole: bool = False
    rounding: str = "half-even"


TENSORS = ("scale", "zero_point", "offset", "maximum", "low", "high", "range")
WAYS = ("scale", "maximum", "low")  # each quantizer has one of these


@dataclass(frozen=True, kw_only=True)
class UserMapping:
    """What the user says. Fields: see the head of this file and docs/adopting.md. where: the file, for messages."""

    library: str | None = None
    bits: int | None = None
    weight_bits: int | None = None
    activation_bits: int | None = None
    activations: str | None = None
    unsigned: tuple[str, ...] = ()
    signed: tuple[str, ...] = ()
    narrow: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    float: tuple[str, ...] = ()
    weights: str | None = None
    bias: str = "float"
    thresholds: str | None = None
    ranges: str | None = None
    norms: str | None = None
    places: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    quantizers: tuple[Entry, ...] = ()
    where: str = "the mapping"

    def bits_of(self, weight: bool) -> int | None:
        """Of weights or of activations, where the file does not say it."""
        found = self.weight_bits if weight else self.activation_bits
        return self.bits if found is None else found

    def is_signed(self, place: str, weight: bool = False) -> bool | None:
        """Whether the activation or weight there has signed codes, as far as the user says it."""
        for patterns, signed in ((self.unsigned, False), (self.signed, True)):
            if listed(place, patterns):
                return signed
        return None if self.activations is None or weight else self.activations == "signed"


def listed(name: str, patterns: Sequence[str]) -> bool:
    """Whether one of the shell patterns is of that name."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def read_mapping(given: str | os.PathLike[str] | Mapping[str, Any] | None, bits: int | None = None) -> UserMapping:
    """given: a file, or what it would hold. bits: what the file would call so.

    Errors (QuantizationError): a file that cannot be read; unknown keys, roles or values.
    """
    if bits is not None and not 2 <= bits <= 8:
        raise QuantizationError(f"bits is {bits}: give 2 … 8")
    if given is None:
        return UserMapping(bits=bits)
    where = "the mapping" if isinstance(given, Mapping) else f"mapping {os.fspath(given)}"
    content = given if isinstance(given, Mapping) else _content(Path(given), where)
    found = _checked(content, where)
    return found if bits is None else replace(found, bits=bits)


def _content(path: Path, where: str) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
        return toml_module(path, "mapping").loads(text) if path.suffix == ".toml" else strict_json.parse(text)
    except OSError as error:
        raise QuantizationError(f"{where} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        kind = "TOML" if path.suffix == ".toml" else "JSON"
        raise QuantizationError(f"{where} is no {kind} ({one_line(error)})") from error


def _checked(content: Any, where: str) -> UserMapping:
    values = _table(content, UserMapping, where, hidden=("where",))
    for key in LISTS:
        patterns = values.get(key, ())
        if isinstance(patterns, str) or not all(isinstance(pattern, str) for pattern in _list(patterns, key, where)):
            raise QuantizationError(f"{where}: {key} is no list of names: write {key} = [{patterns!r}]")
        values[key] = tuple(patterns)
    for key in ("places", "names"):
        pairs = values.get(key, {})
        if not isinstance(pairs, Mapping) or not all(isinstance(name, str) for name in pairs.values()):
            raise QuantizationError(f"{where}: {key} is no table of names: write THEIRS = OURS below [{key}]")
    entries = _list(values.get("quantizers", ()), "quantizers", where)
    values["quantizers"] = tuple(_entry(entry, f"{where}: quantizers {i}") for i, entry in enumerate(entries, 1))
    if not isinstance(values.get("library", ""), str):
        raise QuantizationError(f"{where}: library is no name")
    return UserMapping(**values, where=where)


def _entry(content: Any, where: str) -> Entry:
    values = _table(content, Entry, where)
    if "role" not in values:
        raise QuantizationError(f"{where} has no role: use one of {', '.join(ROLES)}")
    ways = [way for way in WAYS if way in values]
    if len(ways) != 1 or ("low" in ways and ("high" in values) == ("range" in values)):
        raise QuantizationError(f"{where}: give scale (with zero_point or offset), maximum, or low with high or range")
    for key in TENSORS:
        value = values.get(key)
        numbers = value if isinstance(value, (list, tuple)) and value else [value]
        if any(isinstance(number, bool) or not isinstance(number, (int, float)) for number in numbers) and not (
            value is None or isinstance(value, str)
        ):
            raise QuantizationError(f"{where}: {key} is {value!r:.80}: give the name of a tensor, or numbers")
    for key in ("signed", "narrow", "whole"):
        if not isinstance(values.get(key, False), bool):
            raise QuantizationError(f"{where}: {key} is {values[key]!r}: give true or false")
    entry = Entry(**values)
    if "{layer}" in entry.layer and not any("{layer}" in str(values.get(key)) for key in TENSORS):
        raise QuantizationError(f'{where}: no tensor of it is named with {{layer}}: say where it is, layer = "NAME"')
    return entry


def _table(content: Any, kind: type, where: str, hidden: tuple[str, ...] = ()) -> dict[str, Any]:
    """Errors (QuantizationError): no table, unknown keys, numbers of bits and words that are none of ours."""
    known = [f.name for f in fields(kind) if f.name not in hidden]
    if not isinstance(content, Mapping):
        raise QuantizationError(f"{where} is no table: it has keys such as {', '.join(known[:4])}")
    for key, value in content.items():
        if key not in known:
            raise QuantizationError(f"{where}: {key!r} is not known: use {', '.join(known)}")
        if key in CHOICES and value not in CHOICES[key]:
            raise QuantizationError(f"{where}: {key} is {value!r}: use one of {', '.join(CHOICES[key])}")
        if key in BITS and (isinstance(value, bool) or not isinstance(value, int) or not 2 <= value <= 8):
            raise QuantizationError(f"{where}: {key} is {value!r}: give 2 … 8")
    return dict(content)


def _list(value: Any, key: str, where: str) -> Any:
    if not isinstance(value, (list, tuple)):
        raise QuantizationError(f"{where}: {key} is no list")
    return value
