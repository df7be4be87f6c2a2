"""lsq_export/files/text.py: text and JSON appear whole, or one line says why not."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from calib.errors import QuantizationError
from lsq_export.files.text import write_json, write_text


def test_text_is_utf_8_and_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for text in ("before", "β′ − β\n"):
        write_text(path, text)
        assert path.read_bytes() == text.encode("utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_json_is_indented_and_ends_with_a_line(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": [1, None]})
    assert (tmp_path / "a.json").read_text() == '{\n "a": [\n  1,\n  null\n ]\n}\n'


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_what_json_does_not_have_is_refused_and_nothing_written(number: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", [number])
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match=r"a\.txt cannot be written: No such file or directory"):
        write_text(tmp_path / "nowhere" / "a.txt", "x")
    (tmp_path / "taken").mkdir()
    with pytest.raises(QuantizationError, match="taken cannot be written: "):
        write_text(tmp_path / "taken", "x")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]
