"""files.atomic: a file is the old one or the new one, and nothing is left beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lsq_export.files.atomic import replacing, sweep


def test_the_new_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old" and temporary.parent == tmp_path
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ValueError, match="half"), replacing(path) as temporary:
        temporary.write_text("ne")
        raise ValueError("half of it")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_sweep_removes_what_killed_processes_left_of_this_file_alone(tmp_path: Path) -> None:
    path, names = tmp_path / "a.txt", (".a.txt.12.tmp", ".b.txt.12.tmp", ".a.txt.x.tmp", "a.txt.12.tmp")
    for name in names:
        (tmp_path / name).write_text("")
    sweep(path)
    assert {left.name for left in tmp_path.iterdir()} == set(names[1:])
