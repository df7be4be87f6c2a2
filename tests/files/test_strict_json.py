"""lsq_export/files/strict_json.py: JSON that is read in one way only, or not at all."""

from __future__ import annotations

import pytest

from lsq_export.files.strict_json import DEPTH, parse


def test_plain_values_are_read() -> None:
    text = '{"a": [1, -2.5e3, true, null, "\\u00e9 \\ud83d\\ude00"], "b": {}}'
    assert parse(text) == parse(text.encode()) == {"a": [1, -2500.0, True, None, "é 😀"], "b": {}}
    assert parse("[" * DEPTH + "]" * DEPTH)
    assert parse(f"[{2**63 - 1}, {-(2**63)}]") == [2**63 - 1, -(2**63)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "Expecting value"),
        ("{", "Expecting"),
        ("{} {}", "Extra data"),
        (b"\xff\xfe", "can't decode"),
        ('{"a": 1, "a": 2}', "two values for 'a'"),
        ('[{"b": {"a": 1, "a": 1}}]', "two values for 'a'"),
        ("NaN", "NaN is no number"),
        ("[-Infinity]", "-Infinity is no number"),
        ("1e999", "beyond float64"),
        (str(2**63), "beyond int64"),
        ("9" * 10_000, "beyond int64"),
        ('"\\ud800"', "surrogates not allowed"),
        ('{"\\udfff": 1}', "surrogates not allowed"),
        ("[" * (DEPTH + 1) + "]" * (DEPTH + 1), "nested deeper than 32"),
        ("[" * 200_000, "nested too deep"),
        ('{"a":' * 200_000, "nested too deep"),
    ],
)
def test_anything_else_is_refused(text: str | bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse(text)
