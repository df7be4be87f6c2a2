"""Run a tool over an ONNX file: `python -m tools NAME SOURCE TARGET`; --list.

The last line on stdout is the file that it wrote.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from importlib.metadata import version
from pathlib import Path

from . import halves, onnx_own, runtime_tools, simplifiers
from .registry import PACKAGES, TOOLS

logging.disable(logging.WARNING)


def main() -> None:
    if sys.argv[1] == "--list":
        order = [part.__name__ for part in (simplifiers, runtime_tools, onnx_own, halves)]
        names = sorted(TOOLS, key=lambda name: order.index(TOOLS[name].__module__))
        print(
            json.dumps([(name, TOOLS[name].__doc__, f"{PACKAGES[name]} {version(PACKAGES[name])}") for name in names])
        )
        return
    name, source, target = sys.argv[1], Path(sys.argv[2]).absolute(), Path(sys.argv[3]).absolute()
    with contextlib.redirect_stdout(sys.stderr):
        written = TOOLS[name](source, target) or target
    print(written)


if __name__ == "__main__":
    main()
