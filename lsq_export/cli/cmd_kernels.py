"""lsq-export kernels: the library that runs tables at the speed of memory, and how a program loads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click

from lsq_export import kernels

from .output import print_json, say


def _string(path: Path) -> str:
    return json.dumps(str(path), ensure_ascii=False)


# What a program does with its session options before it makes a session. {language: path of the library -> the line}
REGISTER: dict[str, Callable[[Path], str]] = {
    "Python": lambda path: f"options.register_custom_ops_library({_string(path)})  # onnxruntime.SessionOptions()",
    "C++": lambda path: f"options.RegisterCustomOpsLibrary({_string(path)});  // Ort::SessionOptions",
    "C#": lambda path: f"options.RegisterCustomOpLibrary({_string(path)});  // SessionOptions",
    "Java": lambda path: f"options.registerCustomOpLibrary({_string(path)});  // OrtSession.SessionOptions",
}


@click.command("kernels")
@click.option("--build", is_flag=True, help="Compile the library into the package's folder first, with a C compiler.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(build: bool, as_json: bool) -> None:
    """Say where the library of kernels is, which one this processor runs, and how programs load it.

    The library runs nodes lsq_export::Lookup of ONNX files in ONNX Runtime 1.18 and later. Files run without it, too,
    slower and with the same bits. Exit code 2: it was not built, or is not for this machine.
    """
    if build:
        kernels.build()
    path, name = kernels.library_path(), kernels.kernel_name()
    by_hand = kernels.build_line()
    lines = {language: line(path) for language, line in REGISTER.items()}
    if as_json:
        print_json({"library": str(path), "kernel": name, "register": lines, "build": by_hand})
        return
    say(f"library   {path}")
    say(f"kernel    {name} (the environment variable {kernels.KERNEL_VARIABLE} takes another)")
    for language, line in lines.items():
        say(f"{language:<9} {line}")
    say(f"by hand   {by_hand}")
