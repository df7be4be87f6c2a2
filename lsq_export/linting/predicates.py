"""What a predicate is: a function (file, **settings) -> (where, what) for each place that breaks it.

A target names it, and gives the settings (`lsq_export.targets`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .onnx_file import OnnxFile

Place = tuple[str, str]  # (node, or "the file", or an input; what is wrong there)
Predicate = Callable[..., Iterator[Place]]
THE_FILE = "the file"
PREDICATES: dict[str, Predicate] = {}


def predicate(function: Predicate) -> Predicate:
    """Registers it under its name, with - for _."""
    PREDICATES[function.__name__.replace("_", "-")] = function
    return function


def places(name: str, file: OnnxFile, settings: dict[str, Any]) -> list[Place]:
    """Where a file breaks the predicate of that name, each place once."""
    return list(dict.fromkeys(PREDICATES[name](file, **settings)))
