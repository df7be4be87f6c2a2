"""files.atomic: a file is the old one or the new one, and nothing is left beside it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lsq_export.files.atomic import _is_device, replacing, sweep
from support.moments import files_of_at_most, full_disk, moments, watched


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
    token = "0123456789abcdef"
    path, names = (
        tmp_path / "a.txt",
        (f".a.txt.{token}.tmp", f".b.txt.{token}.tmp", ".a.txt.12.tmp", f"a.txt.{token}.tmp"),
    )
    for name in names:
        (tmp_path / name).write_text("")
    sweep(path)
    assert {left.name for left in tmp_path.iterdir()} == set(names[1:])


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.txt").write_text("old")
    (tmp_path / "link").symlink_to("real/a.txt")
    with replacing(tmp_path / "link") as temporary:
        assert temporary.parent == tmp_path / "real"
        temporary.write_text("new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / "a.txt").read_text() == "new"
    with replacing(tmp_path / "link", follow=False) as temporary:
        temporary.write_text("newer")
    assert not (tmp_path / "link").is_symlink() and (tmp_path / "real" / "a.txt").read_text() == "new"


def test_a_device_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with replacing(tmp_path / "pipe") as given:
        assert given == tmp_path / "pipe"
    assert (tmp_path / "pipe").is_fifo()
    (tmp_path / "stdout").symlink_to("pipe")
    with replacing(tmp_path / "stdout") as given:
        assert given == tmp_path / "stdout"
    for name in ("/dev/stdout", "/dev/null"):
        assert _is_device(Path(name))
    assert not _is_device(tmp_path / "new") and not _is_device(tmp_path)


def test_the_content_is_on_the_disk_before_its_name(tmp_path: Path) -> None:
    names: list[str] = []
    with watched(names.append), replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    assert names[:4] == ["open", "fsync", "replace", "fsync"]


def test_a_kill_at_any_moment_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "at" / "a.txt"
    path.parent.mkdir()
    path.write_text("old")

    def write() -> None:
        with replacing(path) as temporary:
            temporary.write_text("new")

    found = [at / "a.txt" for at in moments(path.parent, tmp_path / "moments", write)]
    assert [at.read_text() for at in found][:: len(found) - 1] == ["old", "new"]
    for at in found:
        assert at.read_text() in ("old", "new")
        sweep(at)
        assert list(at.parent.iterdir()) == [at]


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_full_disk_leaves_the_old_file_alone(call: int, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="No space left"), full_disk(call), replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_file_that_grows_too_large_leaves_the_old_one_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="File too large"), files_of_at_most(100), replacing(path) as temporary:
        temporary.write_text("new" * 1000)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
