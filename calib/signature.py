"""What a network takes: how many inputs, and their names, read from its forward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from .errors import QuantizationError
from .samples import Input, Samples, numbered, parameters_of
from .words import counted


@dataclass(frozen=True)
class Takes:
    """names: of all inputs, in order. needed: how many of them every batch has to have.

    integers: an input alone may be integers, since the network looks them up in a table.
    types: of its integers, where only one width will do.
    led: {input: its axes} of those whose first axis is none of the batch; a sample of them gets a first axis of one.
    any_names: of a forward(**kwargs) that names none: a mapping says what they are called.
    """

    names: tuple[str, ...] = ("input",)
    needed: int = 1
    integers: bool = False
    types: Mapping[str, torch.dtype] = field(default_factory=dict)
    led: Mapping[str, int] = field(default_factory=dict)
    any_names: bool = False

    def leading(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs by name, each [N, …]."""

        def lacks(name: str, value: Any) -> bool:
            return isinstance(value, torch.Tensor) and value.dim() == self.led.get(name)

        return {name: value[None] if lacks(name, value) else value for name, value in found.items()}

    def ordered(self, x: Input) -> Input:
        """Several inputs in the order in which the network takes them."""
        if not isinstance(x, Samples):
            return x
        found = x.by_name
        return Samples({name: found[name] for name in (*self.names, *found) if name in found})

    def typed(self, x: Input) -> Input:
        """The same inputs, integers in the width that the network takes."""

        def cast(name: str, tensor: torch.Tensor) -> torch.Tensor:
            known = tensor.is_floating_point() or tensor.dtype == torch.bool
            return tensor if known else tensor.to(self.types.get(name, tensor.dtype))

        if not isinstance(x, Samples):
            return cast(self.names[0], x)
        return Samples({name: cast(name, tensor) for name, tensor in x.by_name.items()})

    @property
    def several(self) -> str:
        """2 inputs (x, mask)."""
        return f"{counted(self.needed, 'input')} ({', '.join(self.names[: self.needed])})"


SINGLE = Takes()


def takes_of(model: nn.Module) -> Takes:
    """What a model's forward takes; optional parameters are not needed."""
    found = parameters_of(model)
    named = [p for p in found if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    needed = [p.name for p in named if p.default is p.empty]
    optional = [p.name for p in named if p.default is not p.empty]
    embeds = getattr(model, "takes_integers", False) or any(
        isinstance(module, (nn.Embedding, nn.EmbeddingBag)) for module in model.modules()
    )
    open_ended = not needed and any(p.kind == p.VAR_KEYWORD for p in found)
    return Takes((*needed, *optional) or SINGLE.names, max(1, len(needed)), embeds, any_names=open_ended)


def takes_as(example: Input) -> Takes:
    """What a model takes that was captured with such an example."""
    if isinstance(example, Samples):
        return Takes(tuple(example.by_name), len(example.by_name), True)
    return Takes(integers=not example.is_floating_point())


def example_of(model: nn.Module, example: Any, what: str = "example_input") -> Input:
    """A tensor, tuple of tensors or mapping, as the inputs of the model. what: the argument.

    Errors (QuantizationError): no tensors, more or fewer than the model takes, names that it does not have, inputs
    whose first dimension is not the same.
    """
    if isinstance(example, Samples):
        found = dict(example.by_name)
    elif isinstance(example, Mapping):
        found = {str(name): value for name, value in example.items()}
        _check_names(model, found, what)
    elif isinstance(example, (tuple, list)) and example:
        takes = takes_of(model)
        if len(example) == 1 and takes.needed == 1:
            return example_of(model, example[0], what)
        found = dict(zip(_names(model, takes, example, what), example, strict=True))
    else:
        if isinstance(example, torch.Tensor) and takes_of(model).needed > 1:
            raise QuantizationError(f"the model takes {takes_of(model).several}, {what} is one tensor: give a tuple")
        return example  # type: ignore[no-any-return]
    return takes_of(model).ordered(samples_of(found, what))


def samples_of(found: Mapping[str, Any], what: str) -> Samples:
    """Errors (QuantizationError): something else than tensors, or other numbers of samples."""
    for name, value in found.items():
        if not isinstance(value, torch.Tensor):
            raise QuantizationError(f"{what}: the input {name} is a {type(value).__name__}: give tensors")
        if value.dim() == 0:
            raise QuantizationError(f"{what}: the input {name} is a single number: every input is [N, …]")
    sizes = {name: len(value) for name, value in found.items()}
    if len(set(sizes.values())) > 1:
        each = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise QuantizationError(
            f"{what}: the inputs have other numbers of samples in their first dimension ({each}): give every input as "
            "[N, …], and make what is the same for all samples a buffer of the model"
        )
    return Samples(dict(found))


def _names(model: nn.Module, takes: Takes, example: Sequence[Any], what: str) -> list[str]:
    """Of the inputs of a tuple."""
    if any(p.kind == p.VAR_POSITIONAL for p in parameters_of(model)):
        return [numbered(index) for index in range(len(example))]
    if not takes.needed <= len(example) <= len(takes.names):
        more = "" if len(takes.names) == takes.needed else f", and {len(takes.names) - takes.needed} optional ones"
        raise QuantizationError(f"the model takes {takes.several}{more}, {what} has {len(example)}")
    return list(takes.names[: len(example)])


def _check_names(model: nn.Module, found: Mapping[str, Any], what: str) -> None:
    parameters, takes = parameters_of(model), takes_of(model)
    if not found:
        raise QuantizationError(f"{what} is empty: the model takes {takes.several}")
    known = [*takes.names, *found] if any(p.kind == p.VAR_KEYWORD for p in parameters) else list(takes.names)
    unknown = [name for name in found if name not in known]
    missing = [name for name in takes.names[: takes.needed] if name not in found and not takes.any_names]
    if unknown or missing:
        wrong = f"has {unknown[0]!r}" if unknown else f"lacks {missing[0]!r}"
        raise QuantizationError(f"{what} {wrong}: the model's forward takes {', '.join(takes.names)}")
