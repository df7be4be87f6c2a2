"""Shifts of training images, drawn from a generator."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def draw_moves(count: int, pixels: int, generator: torch.Generator) -> torch.Tensor:
    """Draw how far each of `count` images moves: rows and columns, 0 … 2·pixels, int64 [2, count]."""
    return torch.randint(0, 2 * pixels + 1, (2, count), generator=generator)


def shift(x: torch.Tensor, pixels: int, moves: torch.Tensor) -> torch.Tensor:
    """Each image of x [N, C, H, W] moved by `moves` [2, N] less `pixels`, so by -pixels … pixels.

    The border is repeated.
    """
    n, _, height, width = x.shape
    padded = F.pad(x, (pixels,) * 4, mode="replicate")  # [N, C, H + 2p, W + 2p]
    top, left = moves
    rows = top[:, None] + torch.arange(height)  # [N, H]
    columns = left[:, None] + torch.arange(width)  # [N, W]
    shifted = padded[torch.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # [N, H, W, C]
    return shifted.permute(0, 3, 1, 2).contiguous()
