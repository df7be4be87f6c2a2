"""lsq_export/qat/bit_widths.py."""

from __future__ import annotations

from lsq_export.qat.bit_widths import bit_widths


def test_bit_widths() -> None:
    assert bit_widths(4, 8) == "W4A8"
