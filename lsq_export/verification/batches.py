"""The data that a network is verified on: checked batch by batch before anything runs on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import onnx_ir as ir
import torch

from calib.errors import QuantizationError
from calib.initialization.first_grids import inputs


def checked_batches(batches: Iterable[object], graph: ir.Graph) -> Iterator[tuple[torch.Tensor, np.ndarray | None]]:
    """(input [N, …] float32 on the CPU, classes [N] or None) of each batch.

    Errors (QuantizationError): what `calib.initialize` refuses, an empty batch, inputs of another shape than the
    graph's, NaN or infinity.
    """
    if isinstance(batches, torch.Tensor) or not isinstance(batches, Iterable):
        raise QuantizationError(
            f"batches is {type(batches).__name__}: give an iterable of tensors or (input, target) pairs"
        )
    shape = [size if isinstance(size, int) else None for size in graph.inputs[0].shape or ()][1:]
    for index, batch in enumerate(batches):
        target = batch[1] if isinstance(batch, (tuple, list)) and len(batch) > 1 else None
        for x in inputs([batch], torch.device("cpu")):
            _check(index, x, shape)
            yield x.detach().float(), None if target is None else np.asarray(target)


def _check(index: int, x: torch.Tensor, shape: list[int | None]) -> None:
    if not len(x):
        raise QuantizationError(f"batch {index} is empty: leave it out")
    if list(x.shape[1:]) != shape:
        fault = f"has inputs of shape {list(x.shape[1:])}"
    elif not torch.isfinite(x).all():
        fault = "holds NaN or infinity"
    else:
        return
    raise QuantizationError(
        f"batch {index} {fault}: the bundle takes finite numbers of shape {shape} (without the batch)"
    )
