"""The line that compiles the library by hand is a line that works."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from lsq_export import kernels


@pytest.mark.slow
def test_by_hand(tmp_path: Path) -> None:
    if kernels.find_compiler() is None or shutil.which("cc") is None:
        pytest.skip("there is no C compiler of the name cc")
    source = shutil.copytree(kernels.SOURCE, tmp_path / "a copy")
    subprocess.run(kernels.build_line(source), shell=True, cwd=tmp_path, check=True)
    assert ctypes.CDLL(str(tmp_path / kernels.LIBRARY.name)).lsq_export_version() == kernels.VERSION


def test_the_variable_names_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "sh -c true")
    assert kernels.find_compiler() == ["sh", "-c", "true"]
    monkeypatch.setenv("CC", "there-is-none")
    assert kernels.find_compiler() is None
    monkeypatch.setenv("CC", "")
    monkeypatch.setenv("PATH", "/nowhere")
    assert kernels.find_compiler() is None
