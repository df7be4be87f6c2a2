"""len(x) of a tensor, as the number that it is in a graph: x.shape[0], which varies with the batch.

Python wants a plain integer of `__len__`, so torch.export makes the length of the example of it, for all batches, and
torch.fx gives up. x.reshape(len(x), -1) is a common line.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx


def length(x: Any) -> Any:
    """len(x); of a tensor x.shape[0], whatever kind of number that is."""
    if isinstance(x, torch.Tensor) and x.dim():
        return x.shape[0]
    return len(x)


@contextmanager
def lengths_as_sizes() -> Iterator[None]:
    """Within this block, len of tensors and of what torch.fx traces is `length`."""
    plain = builtins.len

    def of_anything(x: Any, /) -> Any:
        if isinstance(x, fx.Proxy):
            return x.tracer.create_proxy("call_function", length, (x,), {})
        if isinstance(x, torch.Tensor):
            return x.shape[0] if x.dim() else plain(x)
        return plain(x)

    builtins.len = of_anything
    try:
        yield
    finally:
        builtins.len = plain
