"""lsq_export/verification/summary.py: the answer in a few lines."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from lsq_export.verification.in_training import InTraining
from lsq_export.verification.parity import Parity
from lsq_export.verification.reasons import Reason, in_short
from lsq_export.verification.summary import summary, title, worst_layers
from support.parities import format_parity, layer, parity_of

KNOWN = InTraining(float_accuracy=0.9833, trained_accuracy=0.9805, data="digits", images=4)
MANIFEST: dict[str, Any] = {
    "formats": {"qdq": {"bytes": 28_000}, "qoperator": {"bytes": 22_000}},
    "float_parameter_bytes": 39_000,
    "fold": "strided",
    "folds": [],
    "layers": [{"name": "conv", "bits": 4, "container": "INT8"}],
    "tensors": [],
    "islands": [],
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
    names = ["accuracy", "fold", "bits", "size, speed", "worst tensor", "nearer"]
    assert [label for label, _ in found] == [*names, "exact run", "exact rewrite", "measured fold"]
    elements = "0 of 0 integers of 4 images differ"
    assert dict(found)["exact run"] == f"ONNX Runtime = integer reference: holds ({elements})"
    assert dict(found)["measured fold"].endswith("(20.0 dB > 0 dB, all codes on their grids; not an accuracy)")


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
            "float 98.33% -> trained 98.05% (4 test images of digits); verify measures the integer network's",
        ),
        ({"trained_accuracy": None}, "float not measured; these images have no classes to measure it"),
        (
            {"trained_accuracy": None, "split": "calibration"},
            "float not measured; verify measures the others, on test images with classes",
        ),
        ({**TEST, "grids": "calibrated"}, "float 98.33% -> calibrated 100.00% -> integer 75.00%"),
    ],
)
def test_accuracy(changes: dict[str, Any], expected: str) -> None:
    assert lines(parity_with(**changes))["accuracy"].split("; same class")[0] == expected


def test_nothing_is_said_of_a_float_network_that_another_line_has() -> None:
    parity = parity_with(grids="calibrated").to_dict()
    found = dict(summary(MANIFEST, parity, beside_float=True))["accuracy"]
    assert found.startswith("calibrated 100.00% -> integer 75.00%") and "float not measured" not in found
    without = {**parity, "trained_accuracy": None}
    assert dict(summary(MANIFEST, without, beside_float=True))["accuracy"].startswith("same class as calibrated")


@pytest.mark.parametrize(("trained", "said"), [(0.2, True), (0.9, False), (None, False)])
def test_an_accuracy_near_chance_is_said(trained: float | None, said: bool) -> None:
    parity = replace(parity_with(**TEST), images=1000, trained_accuracy=trained)
    known = {**MANIFEST, "classes": [str(i) for i in range(10)]}
    unnamed = {**MANIFEST, "source": {"model": {"name": "tiny", "num_classes": 10}}}
    for manifest in (known, unnamed):
        text = dict(summary(manifest, parity.to_dict()))["accuracy"]
        assert ("HARDLY BETTER THAN GUESSING (1 in 10)" in text) == said
    assert "GUESSING" not in lines(parity)["accuracy"]  # nobody knows how many classes there are


@pytest.mark.parametrize(
    ("folded", "nudged", "says"),
    [
        (20.0, 35.0, "leaves 35.0 dB: far from exact, 15.0 dB worse"),
        (33.0, 35.0, "leaves 35.0 dB: nearly exact, 2.0 dB worse"),
        (29.9, 53.0, "leaves 53.0 dB: far from exact, 23.1 dB worse"),
        (30.0, 53.0, "leaves 53.0 dB: a small error, 23.0 dB worse"),
        (36.0, 35.5, "changing inputs by 0.01 % costs as much (35.5 dB): as good as exact"),
        (36.0, 31.0, "changing inputs by 0.01 % costs more (31.0 dB): as good as exact"),
        (20.0, float("inf"), "no yardstick: changing inputs by 0.01 % flips no code of these images"),
        (float("inf"), 35.0, "costs nothing: the outputs are the trained model's"),
        (float("-inf"), 35.0, "SQNR is no finite number"),
    ],
)
def test_the_fold_against_the_yardstick_in_words(folded: float, nudged: float, says: str) -> None:
    assert says in lines(parity_with(folded_sqnr_db=folded, nudged_sqnr_db=nudged))["fold"]


@pytest.mark.parametrize("origin", ["calibrated", "adopted"])
def test_nothing_is_called_trained_that_nobody_trained_here(origin: str) -> None:
    edge = replace(layer(9, 1), reasons={Reason.EDGE: 9})
    for changes in ({"folded_sqnr_db": 15.0, "trained_layers": (edge,)}, {"folded_sqnr_db": float("inf")}, {}):
        parity = parity_with(**{"grids": origin, "split": "test", **changes})
        manifest = {**MANIFEST, "classes": ["a", "b"], "source": {"file": "net.onnx", "grids": origin}}
        said = [text for _, text in summary(manifest, replace(parity, trained_accuracy=0.5).to_dict())]
        said += [parity.verdict, str(parity.table), *parity.failures]
        assert not [text for text in said if re.search("train", text)]
        assert any(origin in text for text in said)


def test_accuracies_that_are_known_otherwise_take_the_place_of_those_that_are_not() -> None:
    known = lines(parity_with(trained_accuracy=None), measured="float 98.00% -> integer 97.00% (9 test images)")
    assert known["accuracy"].startswith("float 98.00% -> integer 97.00% (9 test images); same class as trained: ")
    assert lines(parity_with(trained_accuracy=None), measured="")["accuracy"] == "same class as trained: ONLY 50.00%"


def test_of_several_outputs_it_says_which_one_it_means() -> None:
    parity = parity_with(folded_sqnr_db=31.0, folded_outputs_sqnr_db={"boxes": 40.0, "scores": 31.0})
    found = dict(summary({**MANIFEST, "outputs": ["boxes", "scores"]}, parity.to_dict()))
    assert found["fold"].startswith("error 31.0 dB below the outputs (scores 31.0 dB, boxes 40.0 dB); ")
    assert found["accuracy"].endswith("; same class as trained (output boxes): ONLY 50.00%")


def test_size_agreement_and_speed() -> None:
    found = lines(parity_with(), speed="1.00 ms")
    sizes = "qdq 0.028 MB, qoperator 0.022 MB"
    assert found["size, speed"] == f"{sizes}; float weights 0.039 MB; 1.00 ms"
    assert found["accuracy"].endswith("; same class as trained: ONLY 50.00%")  # that of qoperator


def test_the_worst_layer_with_its_reason_in_words() -> None:
    layers = tuple(
        replace(layer(count, 1), name=f"l{count}", reasons={Reason.TIE: 1, reason: count})
        for count, reason in ((5, Reason.BORDER), (70_000, Reason.GRID), (6, Reason.EDGE), (0, Reason.UNKNOWN))
    )
    parity = parity_with(trained_layers=layers)
    assert lines(parity)["worst tensor"] == f"l70000: 7% of codes differ by 1; {in_short()[Reason.GRID]}"
    assert [worst["name"] for worst in worst_layers(parity.to_dict())] == ["l70000", "l6", "l5"]
    assert len(worst_layers(parity.to_dict(), 2)) == 2
    exact = lines(parity_with(trained_layers=layers[-1:]))
    assert exact["worst tensor"] == "none: all codes of learned grids are the trained ones"
    assert "worst tensor" not in lines(parity_with())
    placed = {**MANIFEST, "tensors": [{"name": "l70000", "kind": "activation", "levels": 16, "container": "UINT8"}]}
    placed["tensors"][0]["place"] = "part of down.2 (Hardswish)"
    assert dict(summary(placed, parity.to_dict()))["worst tensor"].startswith("l70000, part of down.2 (Hardswish): 7%")


def test_a_broken_promise_shows_in_its_line() -> None:
    found = lines(parity_with(damaged=("qdq/model.onnx",), folded_sqnr_db=20.0))
    assert found["intact files"].startswith("the files are those that were exported: BROKEN (qdq/model.onnx")
    assert "nearer" not in found
