"""data.augment: images that move."""

from __future__ import annotations

import torch

from lsq_export.data.augment import draw_moves, shift


def test_shift_moves_each_image_and_repeats_the_border() -> None:
    x = torch.arange(64.0).view(1, 1, 8, 8).repeat(50, 1, 1, 1)
    moved = shift(x, 2, draw_moves(50, 2, torch.Generator().manual_seed(0)))
    offsets = {(int(m[0, 4, 4]) // 8 - 4, int(m[0, 4, 4]) % 8 - 4) for m in moved}
    assert moved.shape == x.shape and len(offsets) > 10
    assert all(-2 <= a <= 2 and -2 <= b <= 2 for a, b in offsets)
