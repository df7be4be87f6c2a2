"""lsq_export/verification/parity.py: which bundle keeps its promises, and its JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import replace
from typing import Any

import pytest

from lsq_export.verification.format_parity import FormatParity
from lsq_export.verification.parity import finite
from lsq_export.verification.reasons import Reason
from support.parities import format_parity, layer, parity_of


@pytest.mark.parametrize(
    ("changes", "ok"),
    [
        ({}, True),
        ({"capture_error": 1e-4}, True),
        ({"capture_error": 2e-3}, False),
        (
            {"capture_error": 0.1, "captured_layers": (layer(4, 1, 4000),)},
            True,
        ),  # ties that flip others end to end
        ({"capture_error": 0.1, "captured_layers": (layer(8, 1, 4000),)}, False),
        ({"capture_error": 0.1, "captured_layers": (layer(4, 2, 4000),)}, False),
        ({"capture_error": math.nan}, False),
        ({"damaged": ("qdq/model.onnx",)}, False),
        ({"golden": ("qdq",)}, False),
    ],
)
def test_parity_holds_or_not(changes: dict[str, Any], ok: bool) -> None:
    parity = parity_of(format_parity(), **changes)
    assert parity.ok is ok and (parity.failures == []) is ok


def test_to_dict_is_strict_json() -> None:
    """Infinite and undefined numbers are null; histograms have text keys; failures are lines."""
    parity = parity_of(
        format_parity(sqnr_db=math.inf, layers=(layer(3, 2), layer(0, 0))),
        format_parity("qdq", sqnr_db=math.nan, altered=("constant x is missing",)),
        folded_sqnr_db=-math.inf,
        capture_error=math.nan,
    )
    plain = json.loads(json.dumps(parity.to_dict(), allow_nan=False))
    assert (
        plain["ok"] is False
        and plain["failures"] == parity.failures
        and all("\n" not in line for line in parity.failures)
    )
    assert (
        plain["formats"]["qoperator"]["sqnr_db"]
        is plain["formats"]["qdq"]["sqnr_db"]
        is plain["folded_sqnr_db"]
        is plain["capture_error"]
        is None
    )
    assert plain["formats"]["qoperator"]["layers"][0]["histogram"] == {"2": 3}
    fields = {f.name for f in dataclasses.fields(FormatParity)} | {"ok", "first_differing"}
    assert set(plain["formats"]["qdq"]) == fields and plain["formats"]["qdq"]["ok"] is False


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"damaged": ("qdq/model.onnx",)}, "qdq/model.onnx: the file is not the one that was exported (SHA256SUMS)"),
        (
            {"golden": ("qdq",)},
            "qdq: the golden vectors (test_data_set_0) are not what the integer reference computes",
        ),
        (
            {"capture_error": 2e-3},
            "the captured graph is not the trained model: its outputs differ by 2.00e-03 of their range on the median "
            "image",
        ),
        (
            {"capture_error": 0.1, "captured_layers": (layer(0, 0), layer(20, 1, 1000))},
            "the captured graph is not the trained model: its outputs differ by 1.00e-01 of their range on the median "
            "image; t differs first, in 2.00% of its elements on the same inputs",
        ),
        (
            {"folded_sqnr_db": -1.0},
            "the folded model is not the trained one: its outputs' error is as large as they are (SQNR -1.0 dB)",
        ),
        (
            {"trained_layers": (layer(0, 0), replace(layer(0, 0, 100), outside=3))},
            "t: 3 of 100 codes are none of its grid's",
        ),
    ],
)
def test_every_broken_promise_is_one_line(changes: dict[str, Any], says: str) -> None:
    parity = parity_of(format_parity(), **changes)
    assert parity.failures == [says] and not parity.ok


def test_failures_of_the_formats_come_last() -> None:
    parity = parity_of(format_parity(accumulator_mismatch=1), golden=("qdq",))
    assert [line.split(":")[0] for line in parity.failures] == ["qdq", "qoperator"]


def test_reasons_are_words_in_the_plain_values() -> None:
    explained = replace(layer(3, 1), reasons={Reason.TIE: 2, Reason.BORDER: 1})
    plain = parity_of(format_parity(), trained_layers=(explained,)).to_dict()
    reasons = plain["trained_layers"][0]["reasons"]
    assert reasons == {"tie": 2, "border": 1} and {type(key) for key in reasons} == {str}


def test_finite() -> None:
    assert finite({"a": [1, math.inf, (math.nan, "x")], "b": None}) == {"a": [1, None, [None, "x"]], "b": None}
