"""What a tool is: a function from (source, target) to the file that it wrote, or None: it is target.

Its name, without underscores, is that of the tool; its docstring is the row of the table: the tool, and the options
that are given.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

PACKAGES: dict[str, str] = {}  # {tool: the package whose version counts}
TOOLS: dict[str, Callable[[Path, Path], Path | None]] = {}


def tool(package: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as a tool of that package."""

    def known(function: Callable[..., Any]) -> Callable[..., Any]:
        name = function.__name__.replace("_", "-")
        PACKAGES[name], TOOLS[name] = package, function
        return function

    return known


def module(name: str, *arguments: object) -> None:
    """`python -m name`; stdout is for what we have to say."""
    subprocess.run([sys.executable, "-m", name, *map(str, arguments)], check=True, stdout=sys.stderr)
