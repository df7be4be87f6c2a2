"""The learned grids of a checkpoint, whichever library made it: one row for each quantizer.

    for grid in learned_grids("qat.pth"):
        print(grid.place, grid.role, grid.scale)

Nothing in a file is executed, and no network is needed: what a quantizer is shows in the names of its tensors
(`conventions.py`).
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from calib.errors import QuantizationError, one_line
from lsq_export.files import weights_file

from .conventions import CONVENTIONS, Convention
from .parametrizations import Asked, Stored

_CONVERTED = re.compile(r"(?P<before>.*?)_(?P<what>scale|zero_point)_(?P<number>\d+)")
_QUANTIZED = re.compile(r"quant|lsq|fq", re.IGNORECASE)
_WIDE = (1, 32)


@dataclass(frozen=True, kw_only=True)
class LearnedGrid:
    """One quantizer of a checkpoint.

    place       the module or operator that it belongs to, as the library calls it; "" where names do not say it
    role        "weight", "input", "output", or "activation" where names do not say which
    library     who writes such names; "LSQ+" and "LSQ" for code that no library is known for
    stored      what its tensors are: a step, a range, a largest value, a threshold
    bits        None where the file does not say
    scale       [1] or one per channel; None where it needs the bits
    zero_point  likewise; a real number for LSQ+, -β / s
    low, high   the range that it stands for, where that is what is stored
    """

    place: str
    role: str
    library: str
    stored: str
    bits: int | None
    scale: tuple[float, ...] | None
    zero_point: tuple[float, ...] | None
    low: tuple[float, ...] | None
    high: tuple[float, ...] | None


def learned_grids(path: str | os.PathLike[str], bits: int | None = None) -> tuple[LearnedGrid, ...]:
    """All quantizers of a checkpoint, in its order. bits: of those for which the file does not say it.

    Errors (QuantizationError): a file that is no checkpoint, that reading would have to execute, or that holds no
    learned grid.
    """
    if bits is not None and not _WIDE[0] < bits <= _WIDE[1]:
        raise QuantizationError(f"bits is {bits}: give 2 … {_WIDE[1]}")
    content, _ = weights_file.read(Path(path))
    tensors = flat_tensors(content)
    found = tuple(_row(quantizer, bits) for quantizer in quantizers_in(tensors))
    if not found:
        raise QuantizationError(
            f"checkpoint {path}: none of its {len(tensors)} tensors belongs to a quantizer that is known here; a float "
            "network has none, and some tools keep grids in a file of their own (.encodings, .json)"
        )
    return found


@dataclass(frozen=True, kw_only=True)
class FoundQuantizer:
    """The tensors of one quantizer of a checkpoint. prefix: what their names begin with. values: {last part: array}.

    place, role: as `LearnedGrid` has them. names: of the tensors, in full.
    """

    prefix: str
    convention: Convention
    values: Mapping[str, Any]
    names: tuple[str, ...]

    @property
    def place(self) -> str:
        """The module or operator that it belongs to, as the library calls it."""
        match = self.convention.place.fullmatch(self.prefix)
        assert match is not None
        return str(match["place"] or match["role"])

    @property
    def role(self) -> str:
        """As `LearnedGrid` has it."""
        match = self.convention.place.fullmatch(self.prefix)
        assert match is not None
        if match["role"] in ("pre_hooks", "post_hooks"):
            return _role_of_hook(self.prefix)
        role = _role(match["role"] or self.prefix, self.convention)
        several = any(torch.as_tensor(self.values[name]).numel() > 1 for name in self.convention.needs)
        # PT2E numbers all quantizers alike; one grid per channel is that of weights
        return "weight" if role == "activation" and several else role

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the first tensor that its way asks for, which has the scale."""
        return tuple(torch.as_tensor(self.values[self.convention.needs[0]]).shape)

    def stored(self, asked: Asked) -> Stored:
        """The grid, as far as it is known. Errors (QuantizationError): tensors that are no such grid."""
        try:
            with np.errstate(all="ignore"):  # a range of nothing, as before calibration, has a scale of 0
                return self.convention.grid({name: _plain(value) for name, value in self.values.items()}, asked)
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise QuantizationError(
                f"{self.prefix}: these tensors are no grid of {self.convention.name} "
                f"({', '.join(self.values)}: {one_line(error)})"
            ) from error


def quantizers_in(tensors: Mapping[str, Any]) -> Iterator[FoundQuantizer]:
    """All quantizers of a checkpoint, in its order. tensors: as `flat_tensors` gives them."""
    for prefix, convention in _matches(tensors):
        outer, _, observer = prefix.rpartition(".")
        if observer == "activation_post_process" and f"{outer}.fake_quant_enabled" in tensors:
            continue  # the observer of a quantizer whose grid is fixed
        front = f"{prefix}." if prefix else ""
        values = {
            name: tensors[front + name] for name in (*convention.needs, *convention.takes) if front + name in tensors
        }
        several = any(value.numel() > 1 for value in values.values() if isinstance(value, torch.Tensor))
        if convention.name.startswith("LSQ") and several and not _QUANTIZED.search(prefix):
            continue  # only has the names of a quantizer: vectors that are a norm's, …
        names = tuple(front + name for name in values)
        yield FoundQuantizer(prefix=prefix, convention=convention, values=values, names=names)


def flat_tensors(content: Any) -> dict[str, Any]:
    """{name: tensor} of nested dictionaries; what is kept beside a model has the prefix of its key."""
    return dict(_flat(content))


def _flat(content: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(content, Mapping):
        return
    for key, value in content.items():
        name = f"{prefix}{key}"
        converted = _CONVERTED.fullmatch(name)
        if converted is not None:  # of a graph: one name for a scale and its zero point
            name = f"{converted['before']}_frozen_param{converted['number']}.{converted['what']}"
        if isinstance(value, torch.Tensor) or name.endswith("_extra_state"):
            yield name, value
        elif isinstance(value, Mapping):
            yield from _flat(value, "" if _is_model(value) else f"{name}.")


def _is_model(content: Mapping[Any, Any]) -> bool:
    """Whether these are the tensors of a model, under names that begin with its own modules."""
    return any(isinstance(value, torch.Tensor) and "." in str(key) for key, value in content.items())


def _matches(tensors: Mapping[str, Any]) -> Iterator[tuple[str, Convention]]:
    """(prefix, way) of each quantizer, in the order of the file; the first way that fits."""
    parts: defaultdict[str, set[str]] = defaultdict(set)
    suffixes = {part for convention in CONVENTIONS for part in (*convention.needs, *convention.takes)}
    for name in tensors:
        for suffix in suffixes:
            if name == suffix or name.endswith(f".{suffix}"):
                parts[name[: -len(suffix)].removesuffix(".")].add(suffix)
    for prefix, there in parts.items():
        for convention in CONVENTIONS:
            if there.issuperset(convention.needs) and convention.place.fullmatch(prefix):
                yield prefix, convention
                break


def _row(found: FoundQuantizer, bits: int | None) -> LearnedGrid:
    role = found.role
    stored = found.stored(Asked(bits=bits, weight=role == "weight"))
    listed = {
        name: None if (value := getattr(stored, name)) is None else tuple(map(float, value))
        for name in ("scale", "zero_point", "low", "high")
    }
    return LearnedGrid(
        place=found.place,
        role=role,
        library=found.convention.name,
        stored=found.convention.stored,
        bits=stored.bits,
        **listed,
    )


def _plain(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    if value.dtype.is_complex:
        raise TypeError("complex numbers")
    return value.detach().double().numpy() if value.dtype.is_floating_point else value.detach().numpy()


def _role(name: str, convention: Convention) -> str:
    """From the name that the library gives."""
    if re.search(r"weight|wgt|param|(^|[._])w([._]|$)", name) or "weight" in convention.needs[0]:
        return "weight"
    return next((role for role in ("input", "output") if role in name), "activation")


def _role_of_hook(prefix: str) -> str:
    """NNCF's hooks are behind an operator, or before it, on its first input or on its second one, the weight."""
    if ".pre_hooks." not in f".{prefix}":
        return "output"
    return "input" if re.search(r"__0\.\d+$", prefix) else "weight"
