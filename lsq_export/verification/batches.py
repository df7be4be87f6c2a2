"""The data that a network is verified on: checked batch by batch before anything runs on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from calib.batches import InputKey, hint_of_shape, read_batches
from calib.errors import QuantizationError
from calib.samples import Samples, each_float, fits, in_words, parts_of, shape_of
from calib.signature import Takes
from calib.words import counted
from lsq_export.graph.evaluate import takes_one


def checked_batches(
    batches: Iterable[object], graph: ir.Graph, input_key: InputKey | None = None
) -> Iterator[tuple[Any, np.ndarray | None]]:
    """(input [N, …] float32 on the CPU, classes [N] or None) of each batch. input_key: see `calib.initialize`.

    Several inputs are `Samples`, with the types of integers and masks that the graph has. A graph that takes one sample
    at a time gets them one by one.

    Errors (QuantizationError): what `calib.initialize` refuses, an empty batch, inputs of another shape than the
    graph's, NaN or infinity, or another number of classes than inputs.
    """
    shapes = {str(value.name): _fixed(value) for value in graph.inputs}
    types = {str(value.name): _type_of(value) for value in graph.inputs}
    integers = not all(dtype.is_floating_point for dtype in types.values())
    several = len(shapes) > 1
    takes = Takes(tuple(shapes), len(shapes), integers)
    for index, (x, target) in enumerate(read_batches(batches, input_key, "batch", takes)):
        if isinstance(x, Samples) and not several and list(x.by_name) == list(shapes):
            (x,) = x.by_name.values()
        _check(index, x, shapes if several else next(iter(shapes.values())))
        x = each_float(x, lambda tensor: tensor.detach().cpu().float())
        x = _typed(index, x, types)
        classes = _classes(index, target, len(x))
        if not takes_one(graph):
            yield x, classes
            continue
        for place, one in enumerate(parts_of(x, 1)):
            yield one, None if classes is None else classes[place : place + 1]


def _fixed(value: ir.Value) -> tuple[int | None, ...]:
    """Sizes without the batch; None: any."""
    return tuple(size if isinstance(size, int) else None for size in value.shape or ())[1:]


def _type_of(value: ir.Value) -> torch.dtype:
    known = value.dtype is not None and not value.dtype.is_floating_point()
    return torch.from_numpy(np.empty(0, value.dtype.numpy())).dtype if known and value.dtype else torch.float32


def _typed(index: int, x: Any, types: Mapping[str, torch.dtype]) -> Any:
    """The inputs in the types that the graph has; integers of another width are converted."""
    if not isinstance(x, Samples):
        (dtype,) = types.values()
        return x if x.dtype == dtype else _converted(f"batch {index}", x, dtype)
    return Samples({name: _converted(f"batch {index}: {name}", x.by_name[name], types[name]) for name in types})


def _converted(what: str, x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    kinds = [(t.is_floating_point, t == torch.bool) for t in (x.dtype, dtype)]
    if kinds[0] != kinds[1]:
        raise QuantizationError(f"{what} is {x.dtype}, the network was exported with {dtype}: give that type")
    return x.detach().cpu().to(dtype)


def _check(index: int, x: Any, shape: Any) -> None:
    if not len(x):
        raise QuantizationError(f"batch {index} is empty: leave it out")
    if isinstance(shape, Mapping) and isinstance(x, Samples):
        missing = [name for name in shape if name not in x.by_name]
        if missing:
            raise QuantizationError(f"batch {index} lacks the input {missing[0]}: the network takes {in_words(shape)}")
        if wrong := next((name for name in shape if not fits(x.by_name[name].shape[1:], shape[name])), None):
            raise QuantizationError(
                f"batch {index} has {wrong} of shape {list(x.by_name[wrong].shape[1:])}: the bundle takes "
                f"{list(shape[wrong])} (without the batch)"
            )
        return
    if isinstance(x, Samples):
        raise QuantizationError(f"batch {index} has the inputs {in_words(shape_of(x))}: the network takes one")
    if not fits(x.shape[1:], shape):
        fixed = tuple(size or 0 for size in shape)
        raise QuantizationError(
            f"batch {index} has inputs of shape {list(x.shape[1:])}: the bundle takes finite numbers of shape "
            f"{list(shape)} (without the batch); {hint_of_shape(tuple(x.shape), fixed)}"
        )


def _classes(index: int, target: object, count: int) -> np.ndarray | None:
    """[N, …]; None where the target is no array of numbers, such as boxes."""
    if target is None:
        return None
    try:
        found = target.detach().cpu().numpy() if isinstance(target, torch.Tensor) else np.asarray(target)
    except ValueError:  # lists of other lengths in one list
        return None
    if found.ndim == 0 or found.dtype.kind not in "biuf":
        return None
    if len(found) != count:
        raise QuantizationError(
            f"batch {index} has {counted(len(found), 'target')} for {counted(count, 'input')}: give one for each, or "
            "the inputs alone"
        )
    return found
