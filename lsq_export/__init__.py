"""lsq-export: from LSQ+ training (learned scale and real-valued offset) to integer ONNX, exactly.

    prepare -> calib.initialize -> train -> export -> verify

Names are imported when they are first used, so that `lsq-export --help` does not wait for PyTorch.
"""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING

from calib.lazy import install

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

__all__ = ["Bundle", "Parity", "QATConfig", "QuantizationError", "export", "open_bundle", "prepare", "quantizers", "verify"]

try:
    __version__ = metadata.version("lsq-export")
except metadata.PackageNotFoundError:  # a checkout on the path, not installed
    __version__ = "0+unknown"

install(
    __name__,
    {
        "Bundle": ".bundle",
        "Parity": ".parity",
        "QATConfig": ".prepare",
        "QuantizationError": "calib.errors",
        "export": ".export",
        "open_bundle": ".bundle",
        "prepare": ".prepare",
        "quantizers": ".prepare",
        "verify": ".verify",
    },
)
