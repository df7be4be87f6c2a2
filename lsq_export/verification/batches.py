"""The data that a network is verified on: checked batch by batch before anything runs on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import onnx_ir as ir
import torch

from calib.batches import InputKey, hint_of_shape, read_batches
from calib.errors import QuantizationError


def checked_batches(
    batches: Iterable[object], graph: ir.Graph, input_key: InputKey | None = None
) -> Iterator[tuple[torch.Tensor, np.ndarray | None]]:
    """(input [N, …] float32 on the CPU, classes [N] or None) of each batch. input_key: see `calib.initialize`.

    Errors (QuantizationError): what `calib.initialize` refuses, an empty batch, inputs of another shape than the
    graph's, NaN or infinity, or another number of classes than inputs.
    """
    shape = tuple(size if isinstance(size, int) else None for size in graph.inputs[0].shape or ())[1:]
    for index, (x, target) in enumerate(read_batches(batches, input_key, "batch")):
        _check(index, x, shape)
        yield x.detach().cpu().float(), _classes(index, target, len(x))


def _check(index: int, x: torch.Tensor, shape: tuple[int | None, ...]) -> None:
    if not len(x):
        raise QuantizationError(f"batch {index} is empty: leave it out")
    if tuple(x.shape[1:]) != shape:
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
            f"batch {index} has {len(found)} targets for {count} inputs: give one for each, or the inputs alone"
        )
    return found
