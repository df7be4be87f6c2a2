"""lsq_export/verification/format_parity.py: which file keeps its promises."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lsq_export.verification.layer_parity import IslandParity
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


ISLAND = IslandParity(codes="i", operators=("a (Sin)", "b (Exp)"), elements=1000, differing=7, largest=2)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"altered": ("node a is not as the fold prescribes",)}, "node a is not as the fold prescribes"),
        (
            {"reference_mismatch": 3, "first_mismatch": "q"},
            "3 elements differ from the integer reference, first in q",
        ),
        ({"accumulator_mismatch": 2}, "2 accumulators differ from the folded model's"),
        ({"output_mismatch": 4}, "4 outputs differ from the folded model's by more than float32 rounding"),
        (
            {"islands": (ISLAND,)},
            "the island a (Sin) and b (Exp) gives other codes than float64 does: 7 of 1000, by up to 2",
        ),
        (
            {"layers": (layer(0, 0), layer(500, 3, 1000), layer(600, 1, 1000))},
            "2 tensors differ from the folded model by more than ties, first t: 50.000% of 1000 codes, by up to 3",
        ),
    ],
)
def test_every_broken_promise_is_one_line(changes: dict[str, Any], says: str) -> None:
    parity = format_parity(**changes)
    assert parity.failures == [f"qoperator: {says}"] and not parity.ok


def test_a_file_with_many_altered_parts_names_three() -> None:
    parity = format_parity("qdq", altered=tuple(f"constant {name} is missing" for name in "abcde"))
    assert parity.failures == [f"qdq: constant {name} is missing" for name in "abc"]


def test_other_runtimes_may_round_the_outputs_of_qdq_otherwise() -> None:
    assert format_parity("qdq", reference_mismatch=5, first_mismatch="y").ok


def test_the_codes_of_an_island_alone_may_differ_as_float32_does() -> None:
    """1e-3 of its own codes, 1e-5 of all others."""
    island = IslandParity(codes="t", operators=("a (Sin)",), elements=10**6, differing=0, largest=0)
    differing = layer(1000, 1)
    assert format_parity(layers=(differing,), islands=(island,)).ok
    assert not format_parity(layers=(differing,), islands=(replace(island, codes="u"),)).ok
    assert not format_parity(layers=(layer(1001, 1),), islands=(island,)).ok


def test_the_first_layer_that_differs() -> None:
    assert format_parity(layers=(layer(0, 0), layer(3, 1))).first_differing == layer(3, 1)
    assert format_parity().first_differing is None
