"""lsq_export/files/regular.py: nothing but regular files inside the folder is read."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from lsq_export.files.regular import UnreadableError, read


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "inside"
    (inside / "deep").mkdir(parents=True)
    (inside / "deep" / "file").write_bytes(b"content")
    (tmp_path / "outside").write_bytes(b"secret")
    (inside / "link").symlink_to("../outside")
    (inside / "link inside").symlink_to("deep/file")
    (inside / "folder link").symlink_to("..")
    os.mkfifo(inside / "pipe")
    (inside / "device").symlink_to("/dev/zero")
    return inside


def test_a_file_is_read(folder: Path) -> None:
    assert read(folder, "deep/file", 7) == read(folder, "deep/./file", 7) == b"content"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("../outside", "is no path inside the folder"),
        ("deep/../../outside", "is no path inside the folder"),
        ("/etc/hostname", "is no path inside the folder"),
        ("", "is no path inside the folder"),
        (".", "is no path inside the folder"),
        ("deep/file\0", "is no path inside the folder"),
        ("link", "is a link"),
        ("link inside", "is a link"),
        ("device", "is a link"),
        ("folder link/outside", "lies behind a link"),
        ("pipe", "is no regular file"),
        ("deep", "is no regular file"),
        ("missing", "is missing"),
        ("deep/file/more", "cannot be read: Not a directory"),
        ("x" * 300, "cannot be read: File name too long"),
        ("deep/file", "has 7 bytes, more than the 6 that are read"),
    ],
)
def test_anything_else_is_refused(name: str, says: str, folder: Path) -> None:
    with pytest.raises(UnreadableError, match=says):
        read(folder, name, 6 if name == "deep/file" else 100)


def test_a_socket_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with pytest.raises(UnreadableError, match=r"is no regular file|cannot be read"):
            read(folder, "socket", 10)
