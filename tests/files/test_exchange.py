"""files.exchange: two names change places at once, or nothing happens."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import SimpleNamespace

import pytest

from lsq_export.files import exchange as module
from lsq_export.files.exchange import exchange


def two(path: Path) -> tuple[Path, Path]:
    for name in ("a", "b"):
        (path / name).mkdir()
        (path / name / "is").write_text(name)
    return path / "a", path / "b"


def test_two_folders_change_places(tmp_path: Path) -> None:
    a, b = two(tmp_path)
    if exchange(a, b):  # not on every file system
        assert (a / "is").read_text() == "b" and (b / "is").read_text() == "a"


def test_an_error_is_an_os_error(tmp_path: Path) -> None:
    a, _ = two(tmp_path)
    with pytest.raises(FileNotFoundError):
        exchange(a, tmp_path / "nowhere")


@pytest.mark.parametrize("library", [SimpleNamespace(), SimpleNamespace(renameat2=None)])
def test_a_library_without_it_says_so(library: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *args, **options: library)
    assert not exchange(*two(tmp_path)) and (tmp_path / "a" / "is").read_text() == "a"


def test_a_file_system_that_cannot_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_EXCHANGE", 1 << 20)  # an unknown flag is what an unknown flag of theirs is to us
    assert not exchange(*two(tmp_path)) and (tmp_path / "a" / "is").read_text() == "a"
