"""lsq_export/inspection/codes.py: stored codes and their containers."""

from __future__ import annotations

import numpy as np

from lsq_export.inspection.codes import bits_for, container_bits, container_range, used_codes


def test_used_codes() -> None:
    """(levels, bits, gain). A channel whose sign is flipped reaches from -7 to 8: still 16 codes of one channel."""
    w = np.array([[-8, 7, 0], [8, -7, 1]])
    assert used_codes(w, None, 0) == (6, 4, 1)
    assert used_codes(w * 8, None, 0) == (6, 4, 8)
    assert used_codes(w + 128, np.array(128), None) == (6, 4, 1)
    assert used_codes(np.array([[-1, 0, 1]]), None, None) == (3, 2, 1)
    assert used_codes(np.zeros((2, 3), int), None, 0) == (1, 1, 1)
    assert used_codes(np.array([[-2, 1], [-6, 3]]), None, 0) == (4, 2, 1)  # gains 1 and 3
    assert used_codes(np.array([], int).reshape(0, 3), None, 0) == (0, 1, 1)


def test_container_range() -> None:
    assert [container_range(c) for c in ("UINT8", "INT8", "UINT4", "INT2")] == [(0, 255), (-128, 127), (0, 15), (-2, 1)]


def test_container_bits() -> None:
    assert [container_bits(c) for c in ("UINT8", "INT32", "UINT4", "INT2")] == [8, 32, 4, 2]


def test_bits_for() -> None:
    assert [bits_for(levels) for levels in (1, 2, 3, 16, 17, 256)] == [1, 1, 2, 4, 5, 8]
