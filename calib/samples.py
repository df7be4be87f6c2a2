"""Inputs of a network: one tensor [N, …], or `Samples` where it takes several by name.

Whatever hands inputs on takes both, by the functions of this file.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn

from .arrays import Arrays as Arrays
from .arrays import count_of as count_of
from .door import unwrapped
from .errors import QuantizationError


@dataclass(frozen=True)
class Samples:
    """Several inputs by name, each [N, …] with the same N: floats, integers (tokens) or bools (masks).

    by_name: in the order in which the network takes them.
    """

    by_name: Mapping[str, torch.Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.by_name.values())))

    def __getitem__(self, part: slice) -> Samples:
        return Samples({name: tensor[part] for name, tensor in self.by_name.items()})

    def __iter__(self) -> Iterator[Samples]:
        """One sample [1, …] after the other."""
        return (self[index : index + 1] for index in range(len(self)))


Input: TypeAlias = "torch.Tensor | Samples"


def each(x: Any, function: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The same form, with function(tensor) in place of every tensor."""
    if isinstance(x, Samples):
        return Samples({name: function(tensor) for name, tensor in x.by_name.items()})
    return function(x)


def each_float(x: Any, function: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The same, of floats alone: integers and bools stay what they are."""
    return each(x, lambda tensor: function(tensor) if tensor.is_floating_point() else tensor)


def with_tensors(batch: Any) -> Any:
    """The same with tensors in place of NumPy arrays: a batch, a pair, a mapping, or those in one another."""
    if isinstance(batch, np.ndarray):
        return _tensor(batch) if batch.dtype.kind in "fiub" else batch
    if type(batch) in (tuple, list) and any(isinstance(part, (np.ndarray, tuple, list, Mapping)) for part in batch):
        return type(batch)(map(with_tensors, batch))
    if isinstance(batch, Mapping) and any(isinstance(part, np.ndarray) for part in batch.values()):
        return {key: with_tensors(part) for key, part in batch.items()}
    return batch


def _tensor(array: np.ndarray) -> torch.Tensor:
    """Its values, in the byte order of this machine; a type that torch lacks becomes float64."""
    if isinstance(array, np.ma.MaskedArray):
        if (masked := int(np.sum(np.ma.getmaskarray(array)))) > 0:
            raise QuantizationError(
                f"a batch is a masked array without {masked:,} of {array.size:,} values: fill them, as x.filled(0) does"
            )
        array = array.data
    kind = np.float64 if array.dtype.type is np.longdouble else array.dtype.newbyteorder("=")
    return torch.from_numpy(np.require(array, kind, ["C", "W"]))


def tensors_of(x: Input) -> list[torch.Tensor]:
    """All inputs."""
    return list(x.by_name.values()) if isinstance(x, Samples) else [x]


def numbers_of(x: Input) -> int:
    """How many numbers one sample has, in all inputs."""
    return sum(tensor[:1].numel() for tensor in tensors_of(x))


def parts_of(x: Any, size: int) -> tuple[Any, ...]:
    """Parts of `size` samples; the last one may be smaller."""
    return tuple(x[first : first + size] for first in range(0, max(1, len(x)), size))


def joined(parts: Sequence[Any]) -> Any:
    """One after the other along the batch."""
    if isinstance(parts[0], Samples):
        return Samples({name: torch.cat([part.by_name[name] for part in parts]) for name in parts[0].by_name})
    return torch.cat(list(parts))


def arrays_of(x: Input) -> Any:
    """As numpy arrays: one, or {name: array}."""
    if isinstance(x, Samples):
        return {name: tensor.numpy() for name, tensor in x.by_name.items()}
    return x.numpy()


def from_arrays(arrays: Arrays) -> Any:
    """The inverse of `arrays_of`."""
    if isinstance(arrays, Mapping):
        return Samples({name: torch.from_numpy(array) for name, array in arrays.items()})
    return torch.from_numpy(arrays)


def named(x: Any, names: Sequence[str]) -> dict[str, Any]:
    """{input: tensor or array} of a graph whose inputs have these names."""
    if isinstance(x, Samples):
        return dict(x.by_name)
    return dict(x) if isinstance(x, Mapping) else {names[0]: x}


def shape_of(x: Input) -> Any:
    """Without the batch: a tuple, or {name: tuple}."""
    if isinstance(x, Samples):
        return {name: tuple(tensor.shape[1:]) for name, tensor in x.by_name.items()}
    return tuple(x.shape[1:])


def fits(shape: Any, wanted: Any) -> bool:
    """Whether a shape, as `shape_of` gives it, is the wanted one, where None is any size."""
    if isinstance(shape, Mapping) or isinstance(wanted, Mapping):
        same = isinstance(shape, Mapping) and isinstance(wanted, Mapping) and shape.keys() == wanted.keys()
        return same and all(fits(shape[name], wanted[name]) for name in wanted)
    sizes = tuple(shape)
    return len(sizes) == len(wanted) and all(b is None or a == b for a, b in zip(sizes, wanted, strict=True))


def plain_shape(shape: Any) -> Any:
    """A shape as `shape_of` gives it, as JSON has it: a list, or {name: list}."""
    return {name: list(sizes) for name, sizes in shape.items()} if isinstance(shape, Mapping) else list(shape)


def same_shape(one: Any, other: Any) -> bool:
    """Whether two shapes are equal; the name of a single input is none of it."""
    a, b = (next(iter(x.values())) if isinstance(x, Mapping) and len(x) == 1 else x for x in (one, other))
    return bool(plain_shape(a) == plain_shape(b))


def in_words(shape: Any) -> str:
    """A shape as `shape_of` gives it: [3, 8, 8], or x [3, 8, 8] and mask [8]."""
    if isinstance(shape, Mapping):
        return " and ".join(f"{name} {list(sizes)}" for name, sizes in shape.items())
    return str(list(shape))


def parameters_of(model: nn.Module) -> list[inspect.Parameter]:
    """What the model's forward takes; nothing if Python cannot tell."""
    try:
        return list(inspect.signature(unwrapped(model).forward).parameters.values())
    except (TypeError, ValueError):
        return []


def arguments_of(model: nn.Module, x: Input) -> tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
    """(positional, keyword) arguments with which the model takes x."""
    if not isinstance(x, Samples):
        return (x,), {}
    parameters = parameters_of(model)
    known = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    in_order = [p.name for p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD]
    names = list(x.by_name)
    if any(p.kind == p.VAR_KEYWORD for p in parameters):
        known += [name for name in names if name not in known]
    if names == [numbered(index) for index in range(len(names))] and any(
        p.kind == p.VAR_POSITIONAL for p in parameters
    ):
        return tuple(x.by_name.values()), {}
    if names == in_order[: len(names)] or not {*names} <= {*known}:
        return tuple(x.by_name.values()), {}
    return (), {name: x.by_name[name] for name in known if name in x.by_name}


def numbered(index: int) -> str:
    """The name of an input that the forward has no name for."""
    return f"input_{index}"


def as_bound(model: nn.Module, positional: tuple[Any, ...], keywords: Mapping[str, Any]) -> Any:
    """One thing for each argument of a call, as torch.export takes them: those of *args in a tuple of their own."""
    parameters = parameters_of(model)
    if not positional or not any(p.kind == p.VAR_POSITIONAL for p in parameters):
        return dict(keywords) or positional
    return dict(inspect.Signature(parameters).bind(*positional).arguments)


def absent_from(model: nn.Module, x: Input) -> list[str]:
    """Arguments of the model's forward that are None where x is given."""
    optional = [p.name for p in parameters_of(model) if p.default is None]
    positional, keywords = arguments_of(model, x)
    in_order = [p.name for p in parameters_of(model) if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [name for name in optional if name not in (*in_order[: len(positional)], *keywords)]


def called(model: nn.Module, x: Input) -> Any:
    """What the model makes of x."""
    positional, keywords = arguments_of(model, x)
    return model(*positional, **keywords)
