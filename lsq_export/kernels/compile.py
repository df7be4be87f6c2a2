"""Compile the library of kernels: one call of a C compiler.

`setup.py` loads this file by its path, before anything is installed: it imports the standard library alone.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).parent / "source"
LIBRARY = Path(__file__).parent / "liblsq_export_kernels.so"
FLAGS = ("-std=c11", "-O3", "-ffp-contract=off", "-shared", "-fPIC", "-fvisibility=hidden")
COMPILERS = ("cc", "gcc", "clang")


def find_compiler() -> list[str] | None:
    """The words of the environment variable CC, or a C compiler on the path; None: there is none."""
    words = shlex.split(os.environ.get("CC", "")) or next(([name] for name in COMPILERS if shutil.which(name)), [])
    return words if words and shutil.which(words[0]) else None


def build_line(source: Path = SOURCE) -> str:
    """The command for a shell that compiles the C files in the folder `source` to a library in the current one."""
    return f"{shlex.join(('cc', *FLAGS, '-o', LIBRARY.name))} {shlex.quote(str(source))}/*.c"


def compile_library(out: Path) -> str | None:
    """Compile the library to the file `out`, which appears whole or stays as it was.

    Returns None, or why there is none now, in one line.
    """
    compiler = find_compiler()
    if compiler is None:
        return "there is no C compiler (cc, gcc, clang, or the variable CC)"
    try:
        with tempfile.TemporaryDirectory(prefix=".kernels.", dir=out.parent) as directory:
            made = Path(directory) / out.name
            words = [*compiler, *FLAGS, "-o", str(made), *map(str, sorted(SOURCE.glob("*.c")))]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
                first = next((line for line in said if "error" in line), said[0])
                return f"the C compiler {shlex.join(compiler)} failed: {first.strip()}"
            made.replace(out)
    except OSError as error:
        return f"{error.filename or compiler[0]}: {error.strerror}"
    return None
