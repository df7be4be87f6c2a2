"""lsq_export/verification/layer_parity.py: how far one tensor of codes may differ."""

from __future__ import annotations

import pytest

from lsq_export.verification.layer_parity import ISLAND_TIES, TIES, IslandParity, first_differing
from support.parities import layer


@pytest.mark.parametrize(
    ("differing", "largest", "elements", "within"),
    [
        (0, 0, 100, True),
        (1, 1, 100, True),  # one element may always be a tie
        (2, 1, 100, False),
        (10, 1, 10**6, True),
        (11, 1, 10**6, False),
        (1, 2, 10**6, False),
        (1, -1, 10**6, True),
    ],
)
def test_within_ties(differing: int, largest: int, elements: int, within: bool) -> None:
    assert layer(differing, largest, elements).within(TIES) is within


@pytest.mark.parametrize(("differing", "largest", "ok"), [(0, 0, True), (100, 1, True), (101, 1, False), (1, 2, False)])
def test_an_island_differs_by_ties_of_float32_alone(differing: int, largest: int, ok: bool) -> None:
    island = IslandParity(codes="q", operators=("a (Sin)",), elements=10**5, differing=differing, largest=largest)
    assert island.ok is ok and ISLAND_TIES == 1e-3


def test_the_first_that_differs() -> None:
    same, other = layer(0, 0), layer(1, 1)
    assert first_differing([same, other, layer(5, 2)]) is other
    assert first_differing([same]) is first_differing([]) is None
