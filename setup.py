"""The one step that setup.cfg cannot describe: the library of kernels, compiled where there is a C compiler."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
COMPILE = runpy.run_path(str(ROOT / "lsq_export" / "kernels" / "compile.py"))
NAME = f"lsq_export.kernels.{COMPILE['LIBRARY'].stem}"


def skipped(why: str) -> None:
    print(f"lsq-export: the library of kernels is skipped: {why}; networks run without it, slower", file=sys.stderr)


class BuildKernels(build_ext):
    """Compiles the library, which is no module of Python."""

    def get_ext_filename(self, fullname: str) -> str:
        return f"{fullname.replace('.', '/')}.so"

    def build_extension(self, ext: Extension) -> None:
        out = Path(self.get_ext_fullpath(ext.name))
        out.parent.mkdir(parents=True, exist_ok=True)
        why = COMPILE["compile_library"](out)
        if why is not None:
            skipped(why)


class KernelWheel(bdist_wheel):
    """A wheel with the library is one for the platform, and for every version of Python."""

    def get_tag(self) -> tuple[str, str, str]:
        _, _, platform = super().get_tag()
        return "py3", "none", platform


def kernels() -> dict[str, Any]:
    if COMPILE["find_compiler"]() is None:
        skipped("there is no C compiler (cc, gcc, clang, or the variable CC)")
        return {}
    return {
        "ext_modules": [Extension(NAME, sources=[], optional=True)],
        "cmdclass": {"build_ext": BuildKernels, "bdist_wheel": KernelWheel},
    }


if __name__ == "__main__":
    setup(**kernels())
