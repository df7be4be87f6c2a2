"""lsq_export/verification/against_float.py: what quantization cost, in words and as JSON."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from lsq_export.verification.against_float import AgainstFloat, is_against_float

CLASSES = AgainstFloat(
    images=359, same_class=0.9972, sqnr_db=31.04, float_accuracy=0.9833, integer_accuracy=0.9805, data="digits"
)
OUTPUTS = AgainstFloat(
    images=1,
    same_class=None,
    sqnr_db=20.0,
    float_accuracy=None,
    integer_accuracy=None,
    outputs={"boxes": 20.0, "scores": 40.0},
)


def test_in_words() -> None:
    assert CLASSES.sentence == (
        "same class 99.72% of 359 test images of digits, error 31.0 dB below the outputs; "
        "right: float 98.33%, integers 98.05%"
    )
    assert CLASSES.accuracies == "float 98.33% -> integer 98.05% (359 test images)"
    assert OUTPUTS.sentence == "1 test image, error 20.0 dB below the outputs (boxes 20.0 dB, scores 40.0 dB)"
    assert OUTPUTS.accuracies == ""


def test_a_large_loss_is_said_after_the_promises() -> None:
    assert CLASSES.loss == OUTPUTS.loss == ""
    other = replace(CLASSES, same_class=0.0385)
    assert other.loss.startswith(
        "but 96.15% of the integer network's classes are others than the float one's: more bits"
    )
    assert other.sentence.startswith("same class ONLY 3.85% of 359 test images")
    assert replace(OUTPUTS, sqnr_db=12.6).loss.startswith("but the error is only 12.6 dB below the float network's")
    assert replace(OUTPUTS, sqnr_db=None).loss == "", "no error at all"


@pytest.mark.parametrize("found", [CLASSES, OUTPUTS])
def test_json_and_back(found: AgainstFloat) -> None:
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert is_against_float(plain) and AgainstFloat.from_dict(plain) == found
    assert AgainstFloat.from_dict({**plain, "of a later version": 1}) == found


def test_no_error_at_all_is_null_in_json() -> None:
    exact = AgainstFloat(images=2, same_class=1.0, sqnr_db=math.inf, float_accuracy=None, integer_accuracy=None)
    assert exact.to_dict()["sqnr_db"] is None
    assert AgainstFloat.from_dict(exact.to_dict()).sentence == exact.sentence


@pytest.mark.parametrize(
    "change",
    [{"images": "8"}, {"same_class": "all"}, {"outputs": None}, {"outputs": {"a": "b"}}, {"of": 3}, {"data": ["x"]}],
)
def test_what_is_something_else(change: dict[str, Any]) -> None:
    assert is_against_float(CLASSES.to_dict()) and not is_against_float({**CLASSES.to_dict(), **change})
    assert not is_against_float([CLASSES.to_dict()])


def test_what_lacks_a_number() -> None:
    plain = CLASSES.to_dict()
    del plain["sqnr_db"]
    assert not is_against_float(plain)
