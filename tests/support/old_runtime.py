"""Marks of tests that fail with ONNX Runtime 1.23.2, the newest one for Python 3.10, and the reasons."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest

VERSION = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
CPUINFO = Path("/proc/cpuinfo")
HAS_AMX = CPUINFO.exists() and "amx_int8" in CPUINFO.read_text(encoding="utf-8").split()

# Which elements are wrong depends on memory that nobody has written, hence not strict.
wrong_with_amx = pytest.mark.xfail(
    VERSION < (1, 25) and HAS_AMX, reason="ONNX Runtime before 1.25 computes wrong integer products with AMX"
)


def refused_before_1_27(why: str) -> pytest.MarkDecorator:
    return pytest.mark.xfail(VERSION < (1, 27), reason=f"ONNX Runtime {onnxruntime.__version__} {why}", strict=False)
