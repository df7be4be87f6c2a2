"""How much of a tensor differs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lsq_export.replaying.difference import difference, joined, output_difference
from lsq_export.replaying.integers import Scale

X = np.arange(12, dtype=np.float32).reshape(3, 4)
SCALE = Scale(values=np.float32(0.5), zero_point=np.array(3), axis=1)


def test_equal_integers_do_not_differ() -> None:
    one = difference(X.astype(np.uint8), X.astype(np.int32))
    assert (one.elements, one.differing, one.largest) == (12, 0, 0)


def test_one_that_is_moved_is_counted() -> None:
    moved = X.copy()
    moved[1, 2] += 5
    one = difference(moved, X)
    assert (one.elements, one.differing, one.largest) == (12, 1, 5)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_number_differs(value: float) -> None:
    broken = X.copy()
    broken[0, 0] = value
    for one in (difference(broken, X), output_difference(broken, X, SCALE), output_difference(broken, X, None)):
        assert one.differing == 1 and one.largest == math.inf


def test_another_shape_differs_everywhere() -> None:
    for one in (difference(X.T, X), output_difference(X.T, X, SCALE)):
        assert (one.differing, one.largest) == (12, math.inf)


def test_float_rounding_is_no_other_integer() -> None:
    found = (X * np.float32(1 + 1e-6)).astype(np.float32)
    one = output_difference(found, X, SCALE)
    assert one.differing == 0 and one.unit == "integers" and 100 < (one.sqnr_db or 0) < math.inf
    assert output_difference(found, X, None).differing == 0  # within what float sums may miss


def test_half_a_step_is_another_integer() -> None:
    found = X.copy()
    found[2, 3] += np.float32(0.5)  # one step of 0.5
    assert output_difference(found, X, SCALE).differing == 1
    one = output_difference(found, X, None)
    assert one.differing == 1 and one.unit == "values" and one.largest == 0.5


def test_outputs_together() -> None:
    one = joined([output_difference(X, X, SCALE), output_difference(X + 1, X, SCALE)])
    assert (one.elements, one.differing, one.largest) == (24, 12, 2) and (one.sqnr_db or 0) < 20
