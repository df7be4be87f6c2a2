"""lsq_export/verification/answers.py: whether the integer network gives the answers of the trained one."""

from __future__ import annotations

import pytest

from lsq_export.verification.answers import ALL_HOLD, answers_otherwise, main_format, otherwise, same_class
from support.parities import format_parity, parity_of


@pytest.mark.parametrize(("same", "others"), [(1.0, False), (0.95, False), (0.9499, True), (0.0, True)])
def test_few_of_the_same_class_are_other_answers(same: float, others: bool) -> None:
    plain = parity_of(format_parity("qdq"), format_parity(top1_agreement=same)).to_dict()
    assert (main_format(plain), same_class(plain), answers_otherwise(plain)) == ("qoperator", same, others)
    assert main_format(parity_of(format_parity("qdq")).to_dict()) == "qdq"


def test_the_words() -> None:
    said = "but 40.00% of the integer network's classes are others than the"
    assert otherwise(0.6) == f"{said} trained one's" and otherwise(0.6, "adopted") == f"{said} adopted one's"


def test_an_output_without_classes_answers_nothing_otherwise() -> None:
    parity = parity_of(format_parity(top1_agreement=None))
    assert same_class(parity.to_dict()) is None and not answers_otherwise(parity.to_dict())
    assert parity.verdict == ALL_HOLD
