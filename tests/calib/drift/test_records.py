"""calib.drift.records: uses as plain values, and damaged ones."""

from __future__ import annotations

import json

import pytest

from calib import drift
from calib.errors import QuantizationError
from support.made_up_uses import use


def test_record_and_back() -> None:
    uses = {"a.input": use(), "b.input": use(name="b.input", above=1)}
    assert drift.from_record(json.loads(json.dumps(drift.to_record(uses)))) == uses
    for damaged, says in (
        ({}, "is dict, not a list"),
        ([3], "has 3: it must have name"),
        ([{"name": "a"}], "has name: it must have"),
        ([{**use().to_dict(), "below": "x"}], "has below 'x'"),
        ([{**use().to_dict(), "codes": 1.5}], "has codes 1.5"),
        ([{**use().to_dict(), "scale": float("nan")}], "has scale nan"),
    ):
        with pytest.raises(QuantizationError, match=says):
            drift.from_record(damaged)
