"""lsq_export/verification/in_training.py: accuracies travel from the checkpoint to the parity."""

from __future__ import annotations

import pytest

from lsq_export.verification.in_training import KEY, InTraining

KNOWN = InTraining(float_accuracy=0.98, trained_accuracy=None, data="digits", images=359)


def test_there_and_back() -> None:
    assert InTraining.from_source({KEY: KNOWN.to_dict(), "data": "digits"}) == KNOWN


@pytest.mark.parametrize("source", [None, {}, {KEY: None}, {KEY: 0.98}, "digits"])
def test_nothing_known(source: object) -> None:
    assert InTraining.from_source(source) is None


def test_what_makes_no_sense_is_not_known() -> None:
    given = {"float_accuracy": "high", "trained_accuracy": 1, "data": 3, "images": "many"}
    expected = InTraining(float_accuracy=None, trained_accuracy=1.0, data=None, images=None)
    assert InTraining.from_source({KEY: given}) == expected
