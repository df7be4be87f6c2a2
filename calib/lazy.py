"""Packages whose names are imported when they are first used: `--help` must not wait for PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from .errors import QuantizationError

TORCH = ("torch", "onnxscript")  # what a slim installation lacks
NEEDED = "needs PyTorch, which is not installed here: pip install torch onnxscript"


def is_installed(package: str) -> bool:
    """Whether a package can be imported, without importing it."""
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def attributes_of(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package (PEP 562). homes: {name: the module that defines it}.

    The attributes raise a QuantizationError where PyTorch is missing that they need.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            return getattr(import_module(homes[name]), name)
        except ModuleNotFoundError as error:
            if error.name not in TORCH:
                raise
            raise QuantizationError(f"{package}.{name} {NEEDED}") from error

    return get
