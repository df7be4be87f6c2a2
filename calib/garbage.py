"""Python's search for objects that only refer to each other, put off while graphs are built.

A network in the making is a hundred thousand objects that refer to each other, and next to none of them is garbage.
Looking at all of them again and again, and at the million objects of the libraries, takes a tenth of an export.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

from torch import nn
from torch.nn.parameter import is_lazy

YOUNG, MIDDLE, OLD = 1_000_000, 20, 1000  # new objects, and rounds, until those of an age are looked at
LIGHT = 2**25  # bytes: copies of what is larger are not kept longer than they are needed


@contextmanager
def few_collections(model: object) -> Iterator[None]:
    """Few searches in here. model: a module, or what has a `size` in bytes; with a large one nothing is changed."""
    before = gc.get_threshold()
    if size_of(model) <= LIGHT:
        gc.set_threshold(*map(max, (YOUNG, MIDDLE, OLD), before) if before[0] else before)  # 0: they are off
    try:
        yield
    finally:
        gc.set_threshold(*before)


def drop(size: int) -> None:
    """What nobody refers to any more gives back its memory, if it is large. size: of its constants, in bytes."""
    if size > LIGHT:
        gc.collect()


def size_of(model: object) -> int:
    """Bytes of its parameters and buffers; of what is no module: its `size`, or 0, and who needs a model says so."""
    if not isinstance(model, nn.Module):
        return int(getattr(model, "size", 0))
    return sum(tensor.nbytes for tensor in chain(model.parameters(), model.buffers()) if not is_lazy(tensor))
