"""A checkpoint -> its quantizers and its other tensors, whichever library wrote it."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from calib.errors import QuantizationError
from calib.words import counted
from lsq_export.files import weights_file
from lsq_export.inspection.checkpoint import FoundQuantizer, flat_tensors, quantizers_in

from .entries import mapped
from .learned import Raw, Steps
from .libraries import LIBRARIES, Library, library_of, named
from .mapping import UserMapping, listed
from .modelopt_state import states_of
from .parameters import drop_prefix, without_grids

SHOWN = 3
SWITCHES = ("fake_quant_enabled", "enabled")  # of torch.ao and torchao, of NNCF
SMOOTHED = "_pre_quant_scale"  # of ModelOpt
_DEPTH = 4


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """where: the file, for messages. library: whose it is; None: a mapping says everything. tensors: all of them."""

    where: str
    library: Library | None
    raws: tuple[Raw, ...]
    tensors: Mapping[str, Any]


def read_checkpoint_file(
    path: str | os.PathLike[str], own: Collection[str], mapping: UserMapping, beside: tuple[Raw, ...] = ()
) -> Checkpoint:
    """own: names of the network's tensors. beside: quantizers of a file of encodings; the checkpoint then has none.

    Errors (QuantizationError): those of `weights_file.read`; no learned grids, grids of a library that is not known.
    """
    where = f"checkpoint {os.fspath(path)}"
    content, _ = weights_file.read(Path(path))
    tensors = drop_prefix(flat_tensors(_model_in(content, own)), own)
    if not any(isinstance(value, torch.Tensor) for value in tensors.values()):
        raise QuantizationError(f"{where} holds no tensors: save the state_dict of the quantized model")
    found = list(quantizers_in(tensors))
    if beside:  # a state_dict of a simulation holds the same grids, which have another name there
        own_grids = [(quantizer.prefix, *quantizer.names) for quantizer in found]
        rest = without_grids(tensors, {name for _, *names in own_grids for name in names}, {p for p, *_ in own_grids})
        return Checkpoint(where=where, library=named("AIMET"), raws=beside, tensors=rest)
    own_entries = tuple(mapped(mapping, tensors))
    if own_entries and mapping.library is None:
        return Checkpoint(where=where, library=None, raws=own_entries, tensors=tensors)
    library = _library(found, tensors, mapping, where)
    states = states_of(content)
    on = [quantizer for quantizer in found if _is_on(quantizer, tensors, states)]
    if not on:
        raise QuantizationError(f"{where}: all of its {len(found)} quantizers are switched off: it is a float network")
    _check_modelopt(on, tensors, states, mapping, where)
    off = {quantizer.prefix for quantizer in found if quantizer not in on}
    raws = (*_raws(on, states, steps="divided" if library is None else library.steps), *own_entries)
    return Checkpoint(where=where, library=library, raws=raws, tensors=without_grids(tensors, (), off))


def _is_on(quantizer: FoundQuantizer, tensors: Mapping[str, Any], states: Mapping[str, Any]) -> bool:
    if states.get(quantizer.prefix, {}).get("disabled"):
        return False
    switches = [tensors.get(f"{quantizer.prefix}.{switch}") for switch in SWITCHES]
    return all(bool(torch.as_tensor(switch).any()) for switch in switches if switch is not None)


def _check_modelopt(
    on: list[FoundQuantizer], tensors: Mapping[str, Any], states: Mapping[str, Any], mapping: UserMapping, where: str
) -> None:
    """Errors (QuantizationError): what ModelOpt keeps at a quantizer, and no integer network has."""
    for quantizer in (found for found in on if not listed(found.prefix, mapping.skip)):
        if states.get(quantizer.prefix, {}).get("floats"):
            raise QuantizationError(
                f"{where}: {quantizer.prefix} rounds to floats of few bits, which are no integers: quantize with "
                "num_bits of 2 … 8, or leave it out (skip in a mapping file)"
            )
        if f"{quantizer.prefix}.{SMOOTHED}" in tensors:
            raise QuantizationError(
                f"{where}: {quantizer.prefix} multiplies its input by a factor for each channel ({SMOOTHED}), which is "
                "not read: quantize without SmoothQuant or AWQ"
            )


def _library(
    found: list[FoundQuantizer], tensors: Mapping[str, Any], mapping: UserMapping, where: str
) -> Library | None:
    if mapping.library is not None:
        library = named(mapping.library)
        if library is None:
            names = ", ".join(row.name for row in LIBRARIES)
            raise QuantizationError(f"{mapping.where}: library {mapping.library!r} is not known: use one of {names}")
        return library
    if not found:
        raise QuantizationError(
            f"{where}: none of its {len(tensors)} tensors belongs to a quantizer that is known here: it is a float "
            "network (lsq-export calibrate takes those), or its grids need a mapping file, whose [[quantizers]] name "
            f"the tensors, such as {_some(tensors)} (docs/adopting.md)"
        )
    library = library_of((q.convention.name for q in found), tensors)
    if library is None or library.name.startswith("LSQ"):
        kinds = {f"{q.convention.name} ({', '.join(q.convention.needs)})" for q in found}
        raise QuantizationError(
            f"{where} has {counted(len(found), 'scale')} as {' and '.join(sorted(kinds))} keeps them, such as "
            f"{_some([q.names[0] for q in found])}: which tensors are whose, and their bits, a mapping file says "
            "([[quantizers]], docs/adopting.md)"
        )
    return library


def _raws(found: list[FoundQuantizer], states: Mapping[str, Any], steps: Steps) -> Iterator[Raw]:
    for quantizer in found:
        state = states.get(quantizer.prefix, {})
        yield Raw(
            name=quantizer.prefix,
            place=quantizer.place,
            role=quantizer.role,  # type: ignore[arg-type]
            used=quantizer.names,
            grid=quantizer.stored,
            whole=quantizer.convention.whole,
            steps=steps,
            bits=state.get("bits"),
            signed=state.get("signed"),
            narrow=state.get("narrow"),
            shape=quantizer.shape,
        )


def _model_in(content: Any, own: Collection[str]) -> Any:
    """The dictionary that has most of the network's names: trainings keep optimizers and the like beside it."""
    wanted = {name.rpartition(".")[2] + name.rpartition(".")[0].rpartition(".")[2] for name in own}

    def count(part: Any) -> int:
        ends = {str(n).rpartition(".")[2] + str(n).rpartition(".")[0].rpartition(".")[2] for n in part}
        return len(ends & wanted)

    parts = list(_parts(content))
    return max(parts, key=count) if parts else content


def _parts(content: Any, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    if not isinstance(content, Mapping) or depth > _DEPTH:
        return
    if any(isinstance(value, torch.Tensor) for value in content.values()):
        yield content
    for key, value in content.items():
        if not str(key).endswith("_extra_state"):
            yield from _parts(value, depth + 1)


def _some(names: Collection[str]) -> str:
    shown = list(names)
    more = ", …" if len(shown) > SHOWN else ""
    return ", ".join(shown[:SHOWN]) + more
