"""Where the library is, and one line where it is missing, foreign, or of another version."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from calib.errors import QuantizationError
from lsq_export import kernels
from lsq_export.kernels import compile as compiling
from lsq_export.kernels import library as place


def test_it_is_found_and_answers(library: Path) -> None:
    assert kernels.library_path() == library and library.is_absolute()
    assert kernels.kernel_name() in ("amx", "avx512vbmi", "avx2", "neon", "portable")


def test_nothing_is_built_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = tmp_path / "liblsq_export_kernels.so"
    monkeypatch.setattr(place, "LIBRARY", missing)
    monkeypatch.delenv(kernels.LIBRARY_VARIABLE, raising=False)
    with pytest.raises(QuantizationError, match=r"was not built \(there is no .*\): lsq-export kernels --build"):
        kernels.library_path()
    assert not list(tmp_path.iterdir())


def test_build_and_then_it_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: Path) -> None:
    target = tmp_path / "liblsq_export_kernels.so"
    monkeypatch.setattr(place, "LIBRARY", target)
    monkeypatch.delenv(kernels.LIBRARY_VARIABLE)
    assert kernels.build() == kernels.library_path() == target
    assert [file.name for file in tmp_path.iterdir()] == [target.name] and kernels.kernel_name()
    monkeypatch.setenv("CC", "there-is-none")
    with pytest.raises(QuantizationError, match="there is no C compiler"):
        kernels.build()
    monkeypatch.setenv("CC", "false")
    with pytest.raises(QuantizationError, match="the C compiler false failed: exit code 1"):
        kernels.build()
    assert [file.name for file in tmp_path.iterdir()] == [target.name], "what was there stays"


def test_a_named_library_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kernels.LIBRARY_VARIABLE, str(tmp_path / "none.so"))
    with pytest.raises(QuantizationError, match=r"LSQ_EXPORT_LIBRARY is '.*none\.so', which is no file"):
        kernels.library_path()


def test_a_file_that_is_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.so").write_text("no library")
    monkeypatch.setenv(kernels.LIBRARY_VARIABLE, str(tmp_path / "text.so"))
    with pytest.raises(QuantizationError, match="is no library of kernels for this machine") as error:
        kernels.register(None)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_a_library_of_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: Path) -> None:
    source = shutil.copytree(kernels.SOURCE, tmp_path / "source")
    header = source / "operator.h"
    text = header.read_text(encoding="utf-8")
    assert f"#define LIBRARY_VERSION {kernels.VERSION}\n" in text
    header.write_text(text.replace("#define LIBRARY_VERSION ", "#define LIBRARY_VERSION 9"), encoding="utf-8")
    monkeypatch.setattr(compiling, "SOURCE", source)
    assert compiling.compile_library(tmp_path / "other.so") is None
    monkeypatch.setenv(kernels.LIBRARY_VARIABLE, str(tmp_path / "other.so"))
    with pytest.raises(QuantizationError, match=f"has version 9{kernels.VERSION}, this lsq-export needs"):
        kernels.kernel_name()


def test_a_kernel_that_it_does_not_have(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kernels.KERNEL_VARIABLE, "sse9")
    with pytest.raises(QuantizationError, match="LSQ_EXPORT_KERNEL is 'sse9', which is no kernel"):
        kernels.register(None)
    monkeypatch.setenv(kernels.KERNEL_VARIABLE, "portable")
    assert kernels.kernel_name() == "portable"


def test_options_that_refuse_are_one_line(library: Path) -> None:
    class Options:
        def register_custom_ops_library(self, path: str) -> None:
            raise RuntimeError(f"no\n{path}")

    with pytest.raises(QuantizationError, match=r"ONNX Runtime does not take .*: no "):
        kernels.register(Options())


def test_every_source_has_its_license() -> None:
    """They are copied into bundles."""
    files = [*kernels.SOURCE.glob("*.[ch]")]
    assert len(files) == 32
    for file in files:
        assert "SPDX-License-Identifier: Apache-2.0" in file.read_text(encoding="utf-8")
