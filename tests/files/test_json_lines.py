"""files.json_lines: a series goes on after the last whole line, wherever an interruption cut the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from calib.errors import QuantizationError
from lsq_export.files.json_lines import JsonLines
from support.moments import files_of_at_most

LINES = ['{"a": "ü"}\n', '{"a": "b\x85c\u2028d\x0be"}\n']


@pytest.mark.parametrize("cut", range(1, len(LINES[1].encode())))
def test_cut_anywhere(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(LINES[0].encode() + LINES[1].encode()[:cut])
    file = JsonLines(path)
    assert file.lines == LINES[:1]
    file.append(LINES[1])
    assert path.read_bytes() == "".join(LINES).encode() and JsonLines(path).lines == LINES


def test_a_torn_line_that_is_none_of_ours_stays(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("ten years of work, in one line")
    with pytest.raises(ValueError, match="none of ours"):
        JsonLines(path)


def test_whole_lines_are_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(LINES[0] + LINES[1][:5])
    file = JsonLines(path)
    with files_of_at_most(len(LINES[0].encode())), pytest.raises(QuantizationError, match="cannot be written"):
        file.append(LINES[1])
    assert path.read_text() == LINES[0]


def test_no_file_has_no_lines(tmp_path: Path) -> None:
    file = JsonLines(tmp_path / "r.jsonl")
    assert file.lines == []
    file.append(LINES[0])
    assert JsonLines(file.path).lines == LINES[:1]
