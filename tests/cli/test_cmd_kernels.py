"""`lsq-export kernels`: where the library is and how programs load it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lsq_export import kernels
from lsq_export.cli.cmd_kernels import REGISTER
from lsq_export.kernels import compile as compiling
from lsq_export.kernels import library as place
from support.commands import invoke


def test_it_is_built_shown_and_told_how_to_register(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if kernels.find_compiler() is None:
        pytest.skip("there is no C compiler")
    monkeypatch.setattr(place, "LIBRARY", tmp_path / "lib.so")
    monkeypatch.delenv(kernels.LIBRARY_VARIABLE, raising=False)
    refused = invoke("kernels")
    assert refused.exit_code == 2 and "lsq-export kernels --build" in refused.output
    shown = json.loads(invoke("kernels", "--build", "--json").stdout)
    assert shown["library"] == str(tmp_path / "lib.so") and shown["kernel"] == kernels.kernel_name()
    assert list(shown["register"]) == list(REGISTER) == ["Python", "C++", "C#", "Java"]
    assert all(json.dumps(shown["library"]) in line for line in shown["register"].values())
    lines = invoke("kernels").stdout
    for text in (shown["library"], shown["kernel"], *shown["register"].values(), shown["build"]):
        assert text in lines


def test_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "find_compiler", lambda: None)
    monkeypatch.setattr(place, "LIBRARY", tmp_path / "lib.so")
    result = invoke("kernels", "--build")
    assert result.exit_code == 2 and "there is no C compiler" in result.output
