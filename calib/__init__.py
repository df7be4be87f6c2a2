"""calib: where the numbers of a quantized network are made. Grids, calibration statistics, initialization. Knows torch and numpy, and not lsq_export.

calib.initialize(model, batches, method="mse")
"""

from .errors import QuantizationError
from .grid import Grid
from .initialize import initialize, inputs

__all__ = ["Grid", "QuantizationError", "initialize", "inputs"]
