"""The machine that something was measured on, in words."""

from __future__ import annotations

import os
import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# Flags of Linux, for those extensions that make 8-bit or float products faster: their names.
EXTENSIONS = {
    "avx": "AVX",
    "avx2": "AVX2",
    "avx_vnni": "AVX-VNNI",
    "avx512f": "AVX512",
    "avx512_vnni": "AVX512-VNNI",
    "avx512vbmi": "AVX512-VBMI",
    "avx512_bf16": "AVX512-BF16",
    "avx512_fp16": "AVX512-FP16",
    "amx_int8": "AMX-INT8",
    "amx_bf16": "AMX-BF16",
    "asimd": "NEON",
    "asimddp": "dot products",
    "i8mm": "I8MM",
    "bf16": "BF16",
    "sve": "SVE",
}
FLAGS = ("flags", "Features")  # what /proc/cpuinfo calls them on x86 and ARM


def processor() -> str:
    """The name of the processor, as the system has it."""
    return _told("model name") or platform.processor() or platform.machine()


def instruction_set() -> str:
    """The architecture and its EXTENSIONS on this processor, such as: x86_64 with AVX, AVX2, AVX512, AVX512-VNNI."""
    flags = _told(*FLAGS).split()
    found = [name for flag, name in EXTENSIONS.items() if flag in flags]
    return f"{platform.machine()} with {', '.join(found)}" if found else platform.machine()


def _told(*keys: str) -> str:
    """What CPUINFO says first of one of the keys; "" if nothing."""
    try:
        for line in CPUINFO.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in keys:
                return value.strip()
    except OSError:
        pass
    return ""


def this_machine() -> str:
    """The processor, how many cores this process may use, and the system."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{processor()}, {cores} cores, {platform.system()}"
