"""The library, compiled once for the tests of this folder; they are skipped where there is no C compiler."""

from __future__ import annotations

from pathlib import Path

import pytest

from lsq_export import kernels
from lsq_export.kernels import compile as compiling


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of its own, whatever the checkout has."""
    if kernels.find_compiler() is None:
        pytest.skip("there is no C compiler")
    out = tmp_path_factory.mktemp("kernels") / "kernels.so"
    assert compiling.compile_library(out) is None
    return out


@pytest.fixture
def library(compiled: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The library that `library_path` finds."""
    monkeypatch.setenv(kernels.LIBRARY_VARIABLE, str(compiled))
    monkeypatch.delenv(kernels.KERNEL_VARIABLE, raising=False)
    return compiled
