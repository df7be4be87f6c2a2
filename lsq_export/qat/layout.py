"""Tensors in the order in which they lie in memory, in blocks, and scales and offsets beside them.

x is a tensor to quantize; s stands for one scale [] or one scale for each index of axis 0, [C]; b likewise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch


def along(state: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """[C] -> [C, 1, …], so that it broadcasts along axis 0 of x."""
    return state if state.dim() == 0 else state.view(-1, *[1] * (x.dim() - 1))


def is_dense(x: torch.Tensor) -> bool:
    """Whether x has no gaps in memory and axis 0 is the outermost."""
    return x.is_contiguous() or _channels_last(x)


def same_layout(y: torch.Tensor, x: torch.Tensor) -> bool:
    """Whether y lies in memory as x does, which is dense."""
    return y.is_contiguous() if x.is_contiguous() else _channels_last(y)


def _channels_last(x: torch.Tensor) -> bool:
    return x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)


def flat(x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """A dense x in the order of memory: [elements] with one grid, [C, elements of a channel] with C grids."""
    size = x.numel()
    shape = (size,) if s.dim() == 0 else (x.shape[0], size // x.shape[0])
    return x.detach().as_strided(shape, (1,) if s.dim() == 0 else (shape[-1], 1))


def column(state: torch.Tensor) -> torch.Tensor:
    """A scale or an offset that broadcasts against `flat`: [] or [C, 1]."""
    return state.detach() if state.dim() == 0 else state.detach().view(-1, 1)


def blocks(
    tensors: Sequence[torch.Tensor], s: torch.Tensor, b: torch.Tensor | None, size: int
) -> Iterator[tuple[tuple[torch.Tensor, ...], torch.Tensor, torch.Tensor | None]]:
    """(views of one block of each tensor, s, b of the block), with about `size` elements in a block.

    One grid: [elements] and []; one grid a channel: [rows, elements of a row] and [rows, 1].
    """
    flat_tensors = [flat(t, s) for t in tensors]
    if s.dim() == 0:
        yield from ((parts, s, b) for parts in zip(*(torch.split(t, size) for t in flat_tensors), strict=True))
        return
    rows = max(1, size // flat_tensors[0].shape[1])
    scales = torch.split(column(s), rows)
    offsets = [None] * len(scales) if b is None else torch.split(column(b), rows)
    yield from zip(zip(*(torch.split(t, rows) for t in flat_tensors), strict=True), scales, offsets, strict=True)


def join(parts: list[torch.Tensor | None], s: torch.Tensor) -> torch.Tensor | None:
    """The sums of all blocks: added up for one grid, concatenated for one grid a channel."""
    known = [part for part in parts if part is not None]
    if not known:
        return None
    return torch.stack(known).sum(0) if s.dim() == 0 else torch.cat(known)
