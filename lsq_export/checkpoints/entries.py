"""Quantizers of a user's mapping file: patterns of names of tensors, or numbers, become grids."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from calib.errors import QuantizationError
from lsq_export.inspection.parametrizations import Asked, Stored

from .learned import Raw
from .mapping import TENSORS, WAYS, Entry, UserMapping
from .parameters import is_plain


def mapped(mapping: UserMapping, tensors: Mapping[str, Any]) -> Iterator[Raw]:
    """All quantizers that the user's entries find.

    Errors (QuantizationError): an entry that finds none, names of tensors that the file does not have.
    """
    for number, entry in enumerate(mapping.quantizers, 1):
        where = f"{mapping.where}: quantizers {number}"
        layers = _layers(entry, tensors)
        if not layers:
            way = next(key for key in WAYS if getattr(entry, key) is not None)
            raise QuantizationError(f"{where}: no tensor of the checkpoint is called {getattr(entry, way)!r}")
        for layer in layers:
            yield _raw(entry, layer, tensors, where)


def _layers(entry: Entry, tensors: Mapping[str, Any]) -> list[str]:
    """What {layer} stands for; one "" where the entry is of one quantizer alone."""
    pattern = next((str(getattr(entry, k)) for k in TENSORS if "{layer}" in str(getattr(entry, k))), None)
    if pattern is None:
        names = [name for key in TENSORS if isinstance(name := getattr(entry, key), str)]
        return [""] if all(name in tensors for name in names) else []
    first, *rest = (re.escape(part) for part in pattern.split("{layer}"))
    found = re.compile(f"{first}(?P<layer>.+){'(?P=layer)'.join(rest)}")
    return [match["layer"] for name in tensors if (match := found.fullmatch(name))]


def _raw(entry: Entry, layer: str, tensors: Mapping[str, Any], where: str) -> Raw:
    values: dict[str, np.ndarray] = {}
    used = []
    for key in TENSORS:
        given = getattr(entry, key)
        if given is None:
            continue
        if isinstance(given, str):
            name = given.replace("{layer}", layer)
            tensor = tensors.get(name)
            if not isinstance(tensor, torch.Tensor) or not is_plain(tensor):
                raise QuantizationError(f"{where}: the checkpoint has no tensor of numbers that is called {name!r}")
            used.append(name)
            values[key] = tensor.detach().double().numpy().reshape(-1)
        else:
            values[key] = np.asarray(given, np.float64).reshape(-1)
    place = entry.layer.replace("{layer}", layer)
    return Raw(
        name=used[0] if used else f"{place} ({where})",
        place=place,
        role=entry.role,  # type: ignore[arg-type]
        used=tuple(used),
        grid=_reading(values, entry),
        whole=entry.whole,
        rounding=entry.rounding,
        bits=entry.bits,
        signed=entry.signed,
        shape=tuple(tensors[used[0]].shape) if used else (),
    )


def _reading(values: Mapping[str, np.ndarray], entry: Entry) -> Callable[[Asked], Stored]:
    def grid(asked: Asked) -> Stored:
        codes = replace(asked, narrow=entry.narrow).codes()
        if codes is None:
            return Stored(bits=asked.bits, scale=values.get("scale"))
        first, last = codes
        if "maximum" in values:
            return Stored(scale=values["maximum"] / last, bits=asked.bits, codes=codes)
        if "low" in values:
            high = values["high"] if "high" in values else values["low"] + values["range"]
            scale = (high - values["low"]) / (last - first)
            zero = first - np.rint(values["low"] / scale)
            return Stored(scale=scale, zero_point=zero, bits=asked.bits, codes=codes)
        scale = values["scale"]
        zero = 0.0 - values["offset"] / scale if "offset" in values else values.get("zero_point")
        return Stored(scale=scale, zero_point=zero, bits=asked.bits, codes=codes)

    return grid
