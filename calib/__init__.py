"""calib: where the numbers of a quantized network are made: grids, calibration statistics, initialization.

    calib.initialize(model, batches, method="mse")

It knows torch and numpy, but not lsq_export.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from calib.lazy import attributes_of

if TYPE_CHECKING:
    from calib.batches import inputs as inputs
    from calib.errors import QuantizationError as QuantizationError
    from calib.errors import QuantizationWarning as QuantizationWarning
    from calib.grid import Grid as Grid
    from calib.initialization.first_grids import initialize as initialize

__all__ = ["Grid", "QuantizationError", "QuantizationWarning", "initialize", "inputs"]

__getattr__ = attributes_of(
    __name__,
    {
        "Grid": "calib.grid",
        "QuantizationError": "calib.errors",
        "QuantizationWarning": "calib.errors",
        "initialize": "calib.initialization.first_grids",
        "inputs": "calib.batches",
    },
)
