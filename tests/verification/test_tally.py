"""lsq_export/verification/tally.py: differences of codes, counted."""

from __future__ import annotations

import numpy as np

from lsq_export.verification.reasons import Reason
from lsq_export.verification.tally import NOT_A_CODE, Tally


def test_differences_are_counted_over_batches() -> None:
    tally = Tally()
    tally.add(np.array([[0.0, 1.0], [-1.0, 1.0]]))
    tally.add(np.array([2.0, 0.0]))
    tally.add_equal(4)
    result = tally.result("t")
    assert (result.name, result.elements, result.largest, result.outside) == ("t", 10, 2, 0)
    assert result.histogram == {-1: 1, 1: 2, 2: 1} and result.differing == 0.4 and result.reasons == {}


def test_differences_are_rounded_to_codes() -> None:
    tally = Tally()
    tally.add(np.array([0.49, -0.51, 1.4]))
    assert tally.result("t").histogram == {-1: 1, 1: 1} and tally.elements == 3


def test_what_is_no_code_counts_as_the_largest_difference() -> None:
    tally = Tally()
    tally.add(np.array([np.nan, np.inf, -np.inf, 1e9, -300.0]))
    assert tally.result("t").histogram == {NOT_A_CODE: 3, -NOT_A_CODE: 2}


def test_another_shape_differs_everywhere() -> None:
    tally = Tally()
    tally.add_other_shape(7)
    result = tally.result("t")
    assert (result.elements, result.differing, result.largest) == (7, 1.0, NOT_A_CODE)


def test_reasons_without_elements_are_left_out() -> None:
    tally = Tally()
    tally.reasons.update({Reason.BORDER: 0, Reason.TIE: 2})
    assert tally.result("t").reasons == {Reason.TIE: 2}


def test_nothing_compared_differs_nowhere() -> None:
    result = Tally().result("t")
    assert (result.elements, result.differing, result.largest, result.histogram) == (0, 0.0, 0, {})
