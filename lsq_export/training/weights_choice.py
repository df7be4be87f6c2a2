"""Which tensors of a file are those of a network: by names, through wrappers, prefixes and other conventions.

    {"epoch": 90, "state_dict": {"module.conv1.weight": …}, "optimizer": …}  ->  {"conv1.weight": …}

Nothing depends on how the wrappers and prefixes are called: the dictionary and the prefix are taken with which most of
the names are those of the network.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from calib.errors import QuantizationError
from calib.words import counted
from lsq_export.models.public_names import torchvision_names

# Parts of names that torch.compile, DataParallel and DistributedDataParallel put in.
_INSERTED = ("_orig_mod", "module")
_AVERAGED = re.compile(r"(^|[._-])(ema|swa|averaged?)(\d*)($|[._-])", re.IGNORECASE)
# Usual names, the first one first, where a file has the network several times.
_USUAL = ("", "state_dict", "model", "model_state_dict", "net", "network", "weights", "params", "module")
_DEPTH = 4  # of dictionaries in each other


@dataclass(frozen=True)
class Choice:
    """The tensors of a file that are the network's.

    part, prefix: the keys of the dictionary that holds them, and what its names begin with, both may be "". place: the
    two together, without what torch.compile and the like put in.
    naming: whose names they are, "" for the network's own. averaged: they are an average (EMA).
    tensors: {name in the network: tensor}. left_over: other tensors of the dictionary.
    also_averaged: the file has an average, too.
    """

    part: str
    prefix: str
    place: str
    naming: str
    averaged: bool
    tensors: dict[str, torch.Tensor]
    left_over: tuple[str, ...]
    also_averaged: bool


def choose(content: Any, names: Iterable[str], where: str, averaged: bool = False) -> Choice:
    """The tensors of the network in what a file holds.

    names: those of the network's tensors. averaged: take the average (EMA) instead of the plain weights; without it an
    average is taken only where there are no plain weights.

    Errors (QuantizationError): no state dict, no name of the network, no average, several networks that fit alike.
    """
    own = list(names)
    parts = dict(_parts(content))
    if not parts:
        raise QuantizationError(
            f"{where} holds {_kind(content)}: give a state_dict, which torch.save(model.state_dict(), FILE) writes"
        )
    found = [choice for part, tensors in parts.items() for choice in _choices(part, tensors, own)]
    most = max((len(choice.tensors) for choice in found), default=0)
    if not most:
        there = [name for tensors in parts.values() for name in tensors]
        raise QuantizationError(
            f"{where} holds {counted(len(there), 'tensor')} and none of the network's: it has {first(there)}, the "
            "network needs "
            f"{first(own)}"
        )
    fitting = [choice for choice in found if 2 * len(choice.tensors) > most]  # the rest fits by chance
    averages = [choice for choice in fitting if choice.averaged]
    plain = [choice for choice in fitting if not choice.averaged]
    if averaged and not averages:
        raise QuantizationError(f"{where} holds no averaged weights (EMA): leave ema (--use-ema) out")
    best = _best(averages if averaged or not plain else plain, where, len(own))
    return Choice(**{**vars(best), "also_averaged": bool(plain and averages)})


def first(names: Iterable[str], count: int = 3) -> str:
    """The first names, and how many there are where that is more."""
    shown = list(names)
    more = f", … ({len(shown)} in all)" if len(shown) > count else ""
    return ", ".join(repr(name) for name in shown[:count]) + more


def _parts(content: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """(keys, tensors) of every dictionary that has tensors in it."""
    if not isinstance(content, Mapping) or depth > _DEPTH:
        return
    tensors = {k: v.detach() for k, v in content.items() if isinstance(k, str) and isinstance(v, torch.Tensor)}
    if tensors:
        yield path, tensors
    for key, value in content.items():
        if isinstance(key, str):
            yield from _parts(value, f"{path}.{key}" if path else key, depth + 1)


def _choices(part: str, tensors: dict[str, torch.Tensor], own: list[str]) -> Iterator[Choice]:
    """One for each way to read the names of one dictionary."""
    inserted = _INSERTED if len({_without(name, _INSERTED) for name in own}) == len(own) else ()
    for naming, theirs in (("", dict(zip(own, own, strict=True))), ("torchvision", torchvision_names(own))):
        wanted = {_without(name, inserted): name for name in theirs.values()} if not naming else theirs
        hits: dict[str, dict[str, str]] = {}
        for name in tensors:
            pieces = _without(name, inserted).split(".")
            for at in range(len(pieces)):
                if (end := ".".join(pieces[at:])) in wanted:
                    hits.setdefault(".".join(pieces[:at]), {})[wanted[end]] = name
        for prefix, chosen in hits.items():
            used, place = set(chosen.values()), ".".join(filter(None, (part, prefix)))
            yield Choice(
                part=part,
                prefix=_start(prefix, next(iter(used)), inserted),
                place=place,
                naming=naming,
                averaged=bool(_AVERAGED.search(place)),
                tensors={name: tensors[source] for name, source in chosen.items()},
                left_over=tuple(name for name in tensors if name not in used),
                also_averaged=False,
            )


def _without(name: str, inserted: tuple[str, ...]) -> str:
    return ".".join(piece for piece in name.split(".") if piece not in inserted)


def _best(choices: list[Choice], where: str, needed: int) -> Choice:
    """The one with most tensors, of these the one with a usual name. needed: how many tensors the network has."""
    most = max(len(choice.tensors) for choice in choices)
    best = [choice for choice in choices if len(choice.tensors) == most]
    places = {choice.place: choice for choice in best}
    usual = [places[name] for name in _USUAL if name in places]
    if not usual and len(places) > 1 and 2 * most > needed:
        raise QuantizationError(
            f"{where} holds several networks that fit ({first(places)}): save the weights of one of them alone"
        )
    return usual[0] if usual else best[0]


def _start(prefix: str, name: str, inserted: tuple[str, ...]) -> str:
    """What `name` begins with in the file, where `prefix` is left after the inserted parts are taken out."""
    pieces = name.split(".")
    ends = (".".join(pieces[:at]) for at in range(len(pieces), -1, -1))
    return next(start for start in ends if _without(start, inserted) == prefix)


def _kind(content: Any) -> str:
    if isinstance(content, Mapping):
        return f"a dictionary without tensors ({first(map(str, content)) or 'empty'})"
    return "a single tensor" if isinstance(content, torch.Tensor) else f"a {type(content).__name__}"
