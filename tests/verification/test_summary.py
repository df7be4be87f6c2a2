"""lsq_export/verification/summary.py: the answer in a few lines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lsq_export.verification.in_training import InTraining
from lsq_export.verification.parity import Parity
from lsq_export.verification.reasons import EXPLAINED, Reason
from lsq_export.verification.summary import IN_SHORT, summary, title, worst_layers
from support.parities import format_parity, layer, parity_of

KNOWN = InTraining(float_accuracy=0.9833, trained_accuracy=0.9805, data="digits", images=4)
MANIFEST: dict[str, Any] = {
    "formats": {"qdq": {"bytes": 28_000}, "qoperator": {"bytes": 22_000}},
    "float_parameter_bytes": 39_000,
    "fold": "strided",
    "folds": [],
    "tensors": [],
    "source": {"model": {"name": "tiny"}, "config": {"weight_bits": 4, "activation_bits": 3}},
}
TEST = {"data": "digits", "split": "test", "in_training": KNOWN}


def parity_with(**changes: Any) -> Parity:
    qoperator = format_parity(accuracy=changes.pop("integer", 0.75), top1_agreement=0.5)
    return parity_of(format_parity("qdq"), qoperator, **{"trained_accuracy": 1.0, **changes})


def lines(parity: Parity, **options: Any) -> dict[str, str]:
    return dict(summary(MANIFEST, parity.to_dict(), **options))


def test_at_most_ten_lines_in_order_of_what_is_asked_first() -> None:
    """With the title, where the tables are and the verdict there are twelve."""
    far = parity_with(**TEST, folded_sqnr_db=20.0, trained_layers=(replace(layer(9, 1), reasons={Reason.EDGE: 9}),))
    found = summary(MANIFEST, far.to_dict(), speed="1.00 ms")
    names = ["accuracy", "agreement", "fold", "size, speed", "worst layer", "nearer"]
    assert [label for label, _ in found] == [*names, "exact run", "exact rewrite", "measured fold"]
    assert dict(found)["exact run"] == "ONNX Runtime = integer reference: holds (0 of 0 elements differ)"


def test_the_title() -> None:
    assert title(MANIFEST, parity_with(**TEST).to_dict()) == "tiny W4A3 on 4 test images of digits"
    assert title({"source": None}, parity_with().to_dict()) == "network on 4 images"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (TEST, "float 98.33% -> trained 100.00% -> integer 75.00%"),
        ({}, "float not measured -> trained 100.00% -> integer 75.00%"),
        ({**TEST, "data": "other"}, "float 98.33% (4 test images of digits) -> trained 100.00% -> integer 75.00%"),
        (
            {"split": "calibration", "in_training": KNOWN, "trained_accuracy": None},
            "float 98.33% -> trained 98.05% (4 test images of digits) -> integer: verify measures it",
        ),
        ({"trained_accuracy": None}, "float not measured; these images have no classes to measure it"),
    ],
)
def test_accuracy(changes: dict[str, Any], expected: str) -> None:
    assert lines(parity_with(**changes))["accuracy"] == expected


@pytest.mark.parametrize(
    ("folded", "nudged", "says"),
    [
        (20.0, 35.0, "leaves 35.0 dB: the fold costs 15.0 dB more, far"),
        (33.0, 35.0, "leaves 35.0 dB: the fold costs 2.0 dB more, not far"),
        (36.0, 35.0, "leaves 35.0 dB: the fold costs no more than that"),
        (20.0, float("inf"), "changes nothing in these images"),
        (float("inf"), 35.0, "costs nothing: the outputs are the trained model's"),
        (float("-inf"), 35.0, "SQNR is no finite number"),
    ],
)
def test_the_fold_against_the_yardstick_in_words(folded: float, nudged: float, says: str) -> None:
    assert says in lines(parity_with(folded_sqnr_db=folded, nudged_sqnr_db=nudged))["fold"]


def test_size_agreement_and_speed() -> None:
    found = lines(parity_with(), speed="1.00 ms")
    assert found["size, speed"] == "qdq 0.028 MB, qoperator 0.022 MB; float parameters 0.039 MB; 1.00 ms"
    assert found["agreement"].startswith("50.00% of 4 images get the trained model's class")  # that of qoperator


def test_the_worst_layer_with_its_reason_in_words() -> None:
    layers = tuple(
        replace(layer(count, 1), name=f"l{count}", reasons={Reason.TIE: 1, reason: count})
        for count, reason in ((5, Reason.BORDER), (70_000, Reason.GRID), (6, Reason.EDGE), (0, Reason.UNKNOWN))
    )
    parity = parity_with(trained_layers=layers)
    assert lines(parity)["worst layer"] == f"l70000: 7% of its codes differ; {IN_SHORT[Reason.GRID]}"
    assert [worst["name"] for worst in worst_layers(parity.to_dict())] == ["l70000", "l6", "l5"]
    assert len(worst_layers(parity.to_dict(), 2)) == 2 and IN_SHORT.keys() == EXPLAINED.keys()
    exact = lines(parity_with(trained_layers=layers[-1:]))
    assert exact["worst layer"] == "none: all codes of learned grids are the trained ones"
    assert "worst layer" not in lines(parity_with())


def test_a_broken_promise_shows_in_its_line() -> None:
    found = lines(parity_with(damaged=("qdq/model.onnx",), folded_sqnr_db=20.0))
    assert found["intact files"].startswith("the files are those that were exported: BROKEN (qdq/model.onnx")
    assert "nearer" not in found
