"""Weights that were trained elsewhere, into a float network.

    loaded = load_weights(net, "net.pth")            # a state_dict of any wrapper, .pth or .safetensors
    print(loaded)                                    # what was taken, converted, left over

All is checked before the network changes.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from calib.errors import QuantizationError
from calib.quantized import quantized_modules
from calib.words import counted
from lsq_export.files.weights_file import read

from .weights_choice import Choice, choose, first
from .weights_fit import converted, fresh_head, missing, refuse_left_over, refuse_missing, refuse_shapes


@dataclass(frozen=True, kw_only=True)
class LoadedWeights:
    """What `load_weights` did. `str` of it is one line.

    source: the file. part, prefix: the keys of the dictionary in it that was taken, and what its names began with.
    naming: whose names they are, "" for the network's own. averaged: whether they are an average (EMA).
    also_averaged: whether the file has one, too.
    loaded: names of the network's tensors that got their values from the file. kept: those that did not, because
    new_head asked for it, or counters of batch norms that the file lacks.
    converted: {data type in the file: number of tensors}, where it is not the network's.
    left_over: names in the dictionary that the network does not have.
    """

    source: str
    part: str
    prefix: str
    naming: str
    averaged: bool
    also_averaged: bool
    loaded: tuple[str, ...]
    kept: tuple[str, ...]
    converted: Mapping[str, int]
    left_over: tuple[str, ...]

    def __str__(self) -> str:
        what = [f"of {self.part!r}"] if self.part else []
        what += [f"without {self.prefix + '.'!r}"] if self.prefix else []
        what += [f"by {self.naming}'s names"] if self.naming else []
        facts = [" ".join([counted(len(self.loaded), "tensor"), ", ".join(what)]).rstrip()]
        if self.averaged:
            facts.append("an average (EMA)")
        elif self.also_averaged:
            facts.append("its average (EMA) is not used, ema (--use-ema) takes it")
        if self.converted:
            facts.append("converted from " + ", ".join(f"{kind} ({n})" for kind, n in self.converted.items()))
        head = [name for name in self.kept if not _is_counter(name)]
        if head:
            facts.append(f"as freshly drawn: {first(head)}")
        if self.left_over:
            facts.append(f"left over: {first(self.left_over)}")
        return f"weights of {self.source}: {'; '.join(facts)}"


def load_weights(
    net: nn.Module,
    weights: str | os.PathLike[str] | Mapping[str, Any],
    *,
    new_head: bool = False,
    ema: bool = False,
) -> LoadedWeights:
    """Load weights that were trained elsewhere into a float network, in place.

    weights: a file, safetensors or from torch.save (.pt, .pth, .bin, .ckpt, .tar; nothing in it is executed), or what
    it would hold. A state_dict may lie in wrappers (`state_dict`, `model`, …) and have prefixes (`module.`,
    `_orig_mod.`, `model.`, …). efficientnet_b0 and resnet18 take torchvision's names, too.
    new_head: leave the tensors of the last layer as they are, for other classes than those of the file.
    ema: take averaged weights (`state_dict_ema`, `model_ema`, …) where the file has plain ones, too.

    float16, bfloat16 and float64 become the network's data type. Counters of batch norms may be missing.

    Errors (QuantizationError): a file that cannot be read, one with Python objects, tensors that are missing, of
    another shape, quantized, NaN or infinite, or part of a layer that the network has without them.
    """
    if quantized_modules(net):
        raise QuantizationError("the network has quantizers already: load the weights first, then prepare it")
    source, content = _content(weights)
    state = {name: value for name, value in net.state_dict().items() if isinstance(value, torch.Tensor)}
    lazy = [name for name, value in state.items() if is_lazy(value)]
    if lazy:
        raise QuantizationError(f"{first(lazy)} has no shape yet: run the network on one input, then load its weights")
    choice = choose(content, state, source, ema)
    head = fresh_head(net, state, choice.tensors) if new_head else ()
    found = {name: tensor for name, tensor in choice.tensors.items() if name not in head}
    refuse_missing(source, net, state, found, head, choice.left_over)
    refuse_shapes(source, net, state, found)
    refuse_left_over(source, state, choice)
    values = converted(source, state, found)
    with torch.no_grad():
        for name, value in values.items():
            state[name].copy_(value)
    return _report(source, choice, state, values, found)


def _content(weights: str | os.PathLike[str] | Mapping[str, Any]) -> tuple[str, Any]:
    """(what to call it, what it holds). Errors (QuantizationError): those of `read`; a low-bit checkpoint of ours."""
    if isinstance(weights, Mapping):
        return "the state_dict", weights
    if not isinstance(weights, (str, os.PathLike)):
        raise QuantizationError(f"weights are {type(weights).__name__}: give the name of a file, or a state_dict")
    path = Path(weights)
    content, metadata = read(path)
    if metadata.get("config", "null") != "null" and "lsq_export" in metadata:
        raise QuantizationError(
            f"checkpoint {path} is of a low-bit model: give one of a float model (train --float-out writes it)"
        )
    return f"checkpoint {path}", content


def _report(
    source: str,
    choice: Choice,
    state: Mapping[str, torch.Tensor],
    values: Mapping[str, torch.Tensor],
    found: Mapping[str, torch.Tensor],
) -> LoadedWeights:
    kinds = Counter(
        str(tensor.dtype).removeprefix("torch.") for name, tensor in found.items() if tensor.dtype != state[name].dtype
    )
    return LoadedWeights(
        source=source,
        part=choice.part,
        prefix=choice.prefix,
        naming=choice.naming,
        averaged=choice.averaged,
        also_averaged=choice.also_averaged,
        loaded=tuple(values),
        kept=tuple(missing(state, values)),
        converted=dict(kinds),
        left_over=choice.left_over,
    )


def _is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")
