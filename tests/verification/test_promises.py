"""lsq_export/verification/promises.py: each promise by its name, and every failure belongs to one."""

from __future__ import annotations

from typing import Any

import pytest

from lsq_export.verification.layer_parity import IslandParity
from lsq_export.verification.parity import Parity
from lsq_export.verification.promises import Name, Promise
from support.parities import format_parity, layer, parity_of


def found(parity: Parity) -> dict[Name, Promise]:
    return {promise.name: promise for promise in parity.promises}


def test_all_hold_with_what_was_counted() -> None:
    promises = found(
        parity_of(format_parity(reference_elements=1_234_567), format_parity("qdq", layers=(layer(3, 1),)))
    )
    assert list(promises) == [Name.EXACT_RUN, Name.EXACT_REWRITE, Name.MEASURED_FOLD]
    assert all(promise.holds for promise in promises.values())
    assert promises[Name.EXACT_RUN].verdict == ("holds (0 of 1,234,567 integers of 4 images differ)")
    held = "holds (40.0 dB > 0 dB, all codes on their grids; not an accuracy)"
    assert promises[Name.MEASURED_FOLD].verdict == held
    rewrite = "holds (qoperator 0, qdq 3 of 1,000,000 codes differ, by rounding ties)"
    assert promises[Name.EXACT_REWRITE].verdict == rewrite


def test_formats_of_different_sizes_say_so() -> None:
    parity = parity_of(format_parity(layers=(layer(0, 0, 10),)), format_parity("qdq", layers=(layer(0, 0, 2_000),)))
    assert found(parity)[Name.EXACT_REWRITE].detail == "qoperator 0 of 10, qdq 0 of 2,000 codes differ"


def test_qdq_alone_has_no_exact_run() -> None:
    """By how much they differ is said, not only how many."""
    apart = {"reference_mismatch": 2, "reference_largest": 0.0125, "reference_range": 5.0}
    promise = found(parity_of(format_parity("qdq", **apart, reference_elements=40)))[Name.EXACT_RUN]
    furthest = "by 0.0125 at most (0.25% of the largest output)"
    assert promise.holds is None
    assert promise.verdict == f"no promise (for qdq files; 2 of 40 outputs differ, {furthest})"
    promise = found(parity_of(format_parity("qdq", reference_elements=40)))[Name.EXACT_RUN]
    assert promise.verdict == "no promise (for qdq files; 0 of 40 outputs differ)"


def test_islands_are_named_where_they_limit_the_promise() -> None:
    island = IslandParity(codes="c", operators=("sin (Sin)",), elements=100, differing=1, largest=1)
    parity = parity_of(format_parity(islands=(island,), reference_elements=7))
    assert found(parity)[Name.EXACT_RUN].detail.endswith(" differ outside 1 float operator")


@pytest.mark.parametrize(
    ("name", "of_format", "changes"),
    [
        (Name.EXACT_RUN, {"reference_mismatch": 3, "first_mismatch": "q"}, {}),
        (
            Name.EXACT_RUN,
            {"islands": (IslandParity(codes="c", operators=("s",), elements=9, differing=9, largest=4),)},
            {},
        ),
        (Name.EXACT_REWRITE, {"altered": ("constant x is missing",)}, {}),
        (Name.EXACT_REWRITE, {"accumulator_mismatch": 1}, {}),
        (Name.EXACT_REWRITE, {"output_mismatch": 1}, {}),
        (Name.EXACT_REWRITE, {"layers": (layer(500, 2),)}, {}),
        (Name.MEASURED_FOLD, {}, {"folded_sqnr_db": -1.0}),
        (Name.MEASURED_FOLD, {}, {"capture_error": 0.5}),
        (Name.INTACT_FILES, {}, {"damaged": ("qdq/model.onnx",)}),
        (Name.INTACT_FILES, {}, {"golden": ("qdq",)}),
    ],
)
def test_what_breaks_a_promise_is_its_detail(name: Name, of_format: dict[str, Any], changes: dict[str, Any]) -> None:
    parity = parity_of(format_parity(**of_format), **changes)
    broken = [promise for promise in parity.promises if not promise.holds]
    assert [promise.name for promise in broken] == [name] and not parity.ok
    assert broken[0].verdict.startswith("BROKEN (") and parity.failures[0] in broken[0].detail
    assert {entry["name"]: entry["holds"] for entry in parity.to_dict()["promises"]}[str(name)] is False


def test_several_failures_of_a_promise_are_counted() -> None:
    parity = parity_of(format_parity(accumulator_mismatch=1, output_mismatch=2))
    assert found(parity)[Name.EXACT_REWRITE].detail.endswith("the folded model's; and 1 other failure")
