"""Deployment targets, one a file.

targets.get("ort-cpu").formats      -> ("qdq", "qoperator")
targets.names()                     -> ["ort-cpu", "native-low-bit"]
"""

from __future__ import annotations

from calib.errors import QuantizationError, near

from .choice import FORMATS, Choice, check_formats, choose
from .native_low_bit import TARGET as NATIVE_LOW_BIT
from .ort_cpu import TARGET as ORT_CPU
from .target import Target

__all__ = [
    "FORMATS",
    "NATIVE_LOW_BIT",
    "ORT_CPU",
    "Choice",
    "Target",
    "check_formats",
    "choose",
    "everything",
    "get",
    "names",
]

_TARGETS = {target.name: target for target in (ORT_CPU, NATIVE_LOW_BIT)}


def names() -> list[str]:
    """Names that `get` knows."""
    return list(_TARGETS)


def everything() -> list[Target]:
    """All targets."""
    return list(_TARGETS.values())


def get(name: str) -> Target:
    """The target of that name.

    Errors (QuantizationError): an unknown name.
    """
    if name not in _TARGETS:
        raise QuantizationError(f"target {name!r} is unknown: use {', '.join(_TARGETS)}{near(name, _TARGETS)}")
    return _TARGETS[name]
