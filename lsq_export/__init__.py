"""lsq-export: from LSQ+ training (learned scale and real-valued offset) to integer ONNX, exactly.

    prepare -> calib.initialize -> train -> export -> verify

Names are imported when they are first used, so that `lsq-export --help` does not wait for PyTorch.
"""

from __future__ import annotations

import sys
from importlib import import_module, metadata
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calib.errors import QuantizationError as QuantizationError

    from .bundle import Bundle as Bundle
    from .bundle import open_bundle as open_bundle
    from .export import export as export
    from .parity import Parity as Parity
    from .prepare import QATConfig as QATConfig
    from .prepare import prepare as prepare
    from .prepare import quantizers as quantizers
    from .verify import verify as verify

_HOMES = {
    "Bundle": ".bundle", "Parity": ".parity", "QATConfig": ".prepare", "QuantizationError": "calib.errors", "export": ".export",
    "open_bundle": ".bundle", "prepare": ".prepare", "quantizers": ".prepare", "verify": ".verify",
}  # fmt: skip
__all__ = ["Bundle", "Parity", "QATConfig", "QuantizationError", "export", "open_bundle", "prepare", "quantizers", "verify"]

try:
    __version__ = metadata.version("lsq-export")
except metadata.PackageNotFoundError:  # a checkout on the path, not installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])


class _Package(ModuleType):
    """Stages are functions and modules of one name (prepare, export, verify): importing the module must not hide the function."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
