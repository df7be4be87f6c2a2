"""calib: where the numbers of a quantized network are made. Grids, calibration statistics, initialization. Knows torch and numpy, and not lsq_export.

calib.initialize(model, batches, method="mse")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import install

if TYPE_CHECKING:
    from .errors import QuantizationError as QuantizationError
    from .grid import Grid as Grid
    from .initialize import initialize as initialize
    from .initialize import inputs as inputs

__all__ = ["Grid", "QuantizationError", "initialize", "inputs"]

install(__name__, {"Grid": ".grid", "QuantizationError": ".errors", "initialize": ".initialize", "inputs": ".initialize"})
