"""calib.drift.comparison: what counts as drift, and what does not."""

from __future__ import annotations

from typing import Any

import pytest

from calib.drift import Thresholds, compare
from calib.drift.range_use import RangeUse
from calib.errors import QuantizationError
from support.made_up_uses import use


@pytest.mark.parametrize(
    ("before", "now", "says"),
    [
        ({}, {}, []),
        ({}, {"above": 0.073}, ["clips 7.3% above (0.4% in calibration)"]),
        ({}, {"below": 0.0101}, ["clips 1.0% below (0.0% in calibration)"]),
        ({}, {"below": 0.0099}, []),
        ({"below": 0.5}, {"below": 0.7}, []),  # the zeros of a ReLU below an offset: not half as many more
        ({"above": 0.5}, {"above": 0.0}, []),
        ({}, {"codes": 8}, []),
        ({}, {"codes": 7}, ["uses 7 of 16 codes (14 in calibration)"]),
        ({}, {"std": 0.16}, []),
        ({}, {"std": 0.14}, ["error 4.6 × that of calibration"]),
        ({}, {"mse": 4.1 * 0.1**2 / 12}, ["error 4.1 × that of calibration"]),
        ({"mse": 1e-12, "noise": 1e-9}, {"mse": 1e-6, "noise": 1e-3}, []),  # both are nothing
        ({"std": 0.0}, {"mse": 1.0}, []),
        ({}, {"above": 0.001, "mse": 1.0, "mse_above": 0.999}, []),  # a thousandth are outliers
        ({}, {"above": 0.0011, "mse": 1.0, "mse_above": 0.999}, ["error 1200.0 × that of calibration"]),
    ],
)
def test_reasons(before: dict[str, Any], now: dict[str, Any], says: list[str]) -> None:
    (found,) = compare({"a.input": use(**before)}, {"a.input": use(**now)})
    assert list(found.reasons) == says and found.to_dict()["reasons"] == says


def test_thresholds_are_obeyed() -> None:
    pair = {"a.input": use()}, {"a.input": use(above=0.05, codes=5, std=0.1)}
    assert len(compare(*pair)[0].reasons) == 3
    assert compare(*pair, Thresholds(clipped=0.1, codes=0.1, error=100))[0].reasons == ()
    for wrong in ({"clipped": -0.1}, {"codes": 2.0}, {"error": 0.5}, {"error": float("nan")}):
        with pytest.raises(QuantizationError, match=f"threshold {next(iter(wrong))}="):
            Thresholds(**wrong)


@pytest.mark.parametrize("other", [{"b.input": use(name="b.input")}, {"a.input": use(bits=3)}, {}])
def test_a_record_of_another_network_is_refused(other: dict[str, RangeUse]) -> None:
    with pytest.raises(QuantizationError, match="is of another network"):
        compare(other, {"a.input": use()})
