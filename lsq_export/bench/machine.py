"""The machine that something was measured on, in words."""

from __future__ import annotations

import platform
from pathlib import Path


def processor() -> str:
    """Its name, as the system has it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
