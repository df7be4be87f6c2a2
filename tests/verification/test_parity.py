"""lsq_export/verification/parity.py: which bundle keeps its promises, and its JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest

from lsq_export.verification.format_parity import FormatParity
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
