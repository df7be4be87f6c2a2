"""lsq_export/verification/format_parity.py: which file keeps its promises."""

from __future__ import annotations

import pytest

from support.parities import format_parity, layer


@pytest.mark.parametrize(
    ("differing", "largest", "qoperator", "qdq"),
    [
        (0, 0, True, True),
        (10, 1, True, True),
        (11, 1, False, True),
        (1000, 1, False, True),
        (1001, 1, False, False),
        (1, 2, False, False),
    ],
)
def test_ties(differing: int, largest: int, qoperator: bool, qdq: bool) -> None:
    """1e-5 of a qoperator layer's codes, 1e-3 of a qdq layer's, each by one code."""
    for name, holds in (("qoperator", qoperator), ("qdq", qdq)):
        assert format_parity(name, layers=(layer(differing, largest),)).ok is holds
