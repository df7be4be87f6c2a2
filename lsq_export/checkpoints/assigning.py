"""Where in the float network each quantizer of a checkpoint is: by names, by counting, by codes, as the user says."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

import torch
from torch import fx

from calib.errors import QuantizationError

from .frozen import layers_of_frozen
from .learned import Raw
from .mapping import UserMapping, listed
from .numbered import Slot, slots_of
from .parameters import Names
from .reading import Checkpoint
from .sites import Site, Sites
from .stubs import INPUT

WEIGHT: Final = "weight"
BETWEEN = ", "  # of several places of one quantizer
FROZEN = "_frozen_param"
SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Assigned:
    """weights: {layer: the grid of its weight}. activations: (grid, where), parts of modules before these. codes:
    {layer: the tensor that has the codes of its weight}.
    """

    weights: dict[str, Raw] = field(default_factory=dict)
    activations: list[tuple[Raw, list[Site]]] = field(default_factory=list)
    codes: dict[str, str] = field(default_factory=dict)


def assign(traced: fx.GraphModule, file: Checkpoint, said: UserMapping, names: Names) -> Assigned:
    """Opens those operators of the graph inside of which there are quantizers.

    Errors (QuantizationError): quantizers that have no place in the network; two of one weight.
    """
    raws = [raw for raw in file.raws if not (listed(raw.name, said.skip) or listed(raw.place, said.skip))]
    library = file.library
    found = Assigned()
    slots = _counted(traced, raws, file, said)
    if library is not None and library.frozen:
        slots = _frozen(traced, raws, file, said, names)
        found.codes.update({str(slot.layer): name for name, slot in slots.items() if name in file.tensors})
    sites = Sites(traced, library is not None and library.follows, names.apart(file.tensors))
    lost: list[Raw] = []
    for raw in sorted(raws, key=lambda raw: -raw.place.count(".")):  # silu.mul is inside of silu
        slot = slots.get(raw.name) or _slot(raw, sites, said, names) or _wrapped(raw, sites, traced)
        if slot is None:
            lost.append(raw)
        elif slot.layer is not None:
            if not _is_said(raw, said) and _are_alike(found.weights.get(slot.layer), raw, file):
                continue
            if slot.layer in found.weights:
                raise QuantizationError(
                    f"{file.where}: {found.weights[slot.layer].name} and {raw.name} are both of the weight of "
                    f"{slot.layer}: leave one out (skip in a mapping file)"
                )
            found.weights[slot.layer] = replace(raw, role=WEIGHT)
        else:
            found.activations.append((raw, list(slot.sites)))
    if lost:
        raise QuantizationError(_no_place(traced, lost, file.where, said))
    return found


def _are_alike(one: Raw | None, other: Raw, file: Checkpoint) -> bool:
    """Whether two calls of a layer, which a library counts apart, have one grid of its weight."""
    if one is None or not one.used or len(one.used) != len(other.used):
        return False
    pairs = [(file.tensors[mine], file.tensors[theirs]) for mine, theirs in zip(one.used, other.used, strict=True)]
    return all(isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) and torch.equal(a, b) for a, b in pairs)


def _slot(raw: Raw, sites: Sites, said: UserMapping, names: Names) -> Slot | None:
    """None where it has no place."""
    given = said.places.get(raw.place, said.places.get(raw.name))
    if given is None:
        return _at(names.of(raw.place), raw.role, sites)
    slots = [_given(place, raw.role, sites) for place in given.split(BETWEEN)]
    known = [slot for slot in slots if slot is not None]
    if len(known) < len(slots):
        return None
    return known[0] if known[0].layer is not None else Slot(sites=tuple(site for slot in known for site in slot.sites))


def _given(place: str, role: str, sites: Sites) -> Slot | None:
    """A place that the user names; what stands behind the last point may say on which side of it."""
    owner, _, end = place.rpartition(".")
    if owner and end == "output":
        exact = tuple(sites.at(owner))
        return Slot(sites=exact) if exact else None
    if owner and end in ("input", WEIGHT):
        return _at(owner, end, sites)
    return _at(place, "output" if role == "activation" else role, sites)


def _at(place: str, role: str, sites: Sites) -> Slot | None:
    if role == WEIGHT:
        layer = sites.layer(place)
        return None if layer is None else Slot(layer=layer)
    found = sites.of_input(place) if role == "input" else sites.of_output(place)
    return Slot(sites=tuple(found)) if found else None


def _wrapped(raw: Raw, sites: Sites, traced: fx.GraphModule) -> Slot | None:
    """torch.ao's QuantWrapper is around a network: what it quantizes is the network's only input."""
    inputs = [node.name for node in traced.graph.nodes if node.op == "placeholder"]
    found = raw.place == INPUT and len(inputs) == 1 and sites.of_output(inputs[0])
    return Slot(sites=tuple(found)) if found else None


def _counted(traced: fx.GraphModule, raws: list[Raw], file: Checkpoint, said: UserMapping) -> dict[str, Slot]:
    """Of quantizers that have numbers for names, unless the user says where all of them are."""
    numbered = file.library.numbered if file.library is not None else None
    counted = [raw for raw in raws if numbered is not None and numbered.pattern.fullmatch(raw.name)]
    if numbered is None or all(_is_said(raw, said) for raw in counted):
        return {}
    found = slots_of(traced, counted, numbered)
    if found is None:
        raise QuantizationError(
            f"{file.where}: its {len(counted)} quantizers are counted ({counted[0].name}, …), and fit neither every "
            "tensor of the network nor the inputs of its layers in one order: say where each is, in [places] of a "
            "mapping file; lsq_export.places_of(prepared) writes them for torchao"
        )
    return {raw.name: found[raw.name] for raw in counted if not _is_said(raw, said)}


def _frozen(
    traced: fx.GraphModule, raws: list[Raw], file: Checkpoint, said: UserMapping, names: Names
) -> dict[str, Slot]:
    """Of weights in converted graphs."""
    if all(raw.role == WEIGHT for raw in raws):
        raise QuantizationError(
            f"{file.where} is of a converted graph, whose code has the grids of activations, not the file: adopt its "
            "ONNX export, save the state_dict before it is converted, or give these grids as numbers in a mapping file "
            "(docs/adopting.md)"
        )
    of_graph = [raw for raw in raws if raw.name.startswith(FROZEN) and not _is_said(raw, said)]
    tensors = {names.of(name): value for name, value in file.tensors.items()}
    layers = layers_of_frozen(traced, of_graph, tensors, said.bits_of(weight=True), file.where)
    return {name: Slot(layer=layer) for name, layer in layers.items()}


def _is_said(raw: Raw, said: UserMapping) -> bool:
    return raw.name in said.places or raw.place in said.places


def _no_place(traced: fx.GraphModule, lost: list[Raw], where: str, said: UserMapping) -> str:
    wanted = dict.fromkeys(said.places.get(raw.place, said.places.get(raw.name, raw.place)) for raw in lost)
    names = ", ".join([*wanted][:SHOWN])
    more = f", … ({len(wanted)} in all)" if len(wanted) > SHOWN else ""
    there = [node.name for node in traced.graph.nodes if node.op not in ("output", "get_attr")]
    return (
        f"{where}: the network has no {names}{more}: say where in [places] of a mapping file, "
        f'"{lost[0].place}" = one of {", ".join(there[:6])}, …'
    )
