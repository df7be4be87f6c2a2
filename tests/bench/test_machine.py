"""bench/machine.py: the processor in words."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from lsq_export.bench import machine


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx avx2 avx512f avx512_vnni\n", " with AVX, AVX2, AVX512, AVX512-VNNI"),
        ("processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\n", " with NEON, dot products, I8MM"),
        ("flags\t\t: fpu sse2\nbugs\t\t: avx2\n", ""),
        (None, ""),
    ],
)
def test_extensions_are_read_from_the_flags(
    text: str | None, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    assert machine.instruction_set() == platform.machine() + says
