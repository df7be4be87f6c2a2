"""What rounding the inputs or the weights of linear layers costs in their outputs, on rows [R, C] of real inputs.

    error(x̂) = mean over rows r of  ‖(x̂_r - x_r) Wᵀ‖² / ‖x_r Wᵀ‖²

Each row counts alike, however large it is, as the norms, softmaxes and distances after such layers take it: a token of
a transformer can be a hundred times as large as the others. The least squared error of x itself is another grid: it
cuts off the few largest values, which in a row all point the same way, and weights may be largest where these are.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from calib.quantized import Quantized
from calib.statistics.observers import Observer

from .rules import activation_grid

WIDER = (0.25, 0.5, 0.75, 1.0)  # of the way from the grid of the least squared error to the range of the data


class RowErrors:
    """rows: [R, C_in]. weight: [C_out, C_in] of all layers that read them, one below the other. Both float32."""

    def __init__(self, rows: np.ndarray, weight: np.ndarray) -> None:
        outputs = np.square(rows @ weight.T).sum(1, dtype=np.float64)  # [R]
        used = outputs > 0
        self.rows, self.weight, self._outputs = rows[used], weight, outputs[used]

    def of_inputs(self, quantized: np.ndarray) -> float:
        """Of other rows in place of the rows."""
        return self._mean((quantized - self.rows) @ self.weight.T)

    def of_weight(self, quantized: np.ndarray) -> float:
        """Of another weight in place of the weight."""
        return self._mean(self.rows @ (quantized - self.weight).T)

    def _mean(self, errors: np.ndarray) -> float:
        return float((np.square(errors).sum(1, dtype=np.float64) / self._outputs).mean()) if len(self.rows) else 0.0


def widen_grid(quantizer: Quantized, errors: RowErrors, low: float, high: float) -> None:
    """Give the quantizer, which has a grid, the one of the least error between this and the range low … high."""
    if quantizer.fixed is not None or not len(errors.rows):
        return
    rows = torch.from_numpy(errors.rows)

    def error(grid: tuple[float, float]) -> float:
        quantizer.set_grid(*grid)
        with torch.no_grad():
            return errors.of_inputs(quantizer(rows).numpy())

    quantizer.set_grid(*min(_grids(quantizer, low, high), key=error))


def _grids(quantizer: Quantized, low: float, high: float) -> Iterator[tuple[float, float]]:
    scale, offset = quantizer.scale.item(), quantizer.offset.item()
    yield scale, offset
    bottom, top = (scale * code + offset for code in (quantizer.qmin, quantizer.qmax))
    for share in WIDER:
        ends = Observer(quantizer.name)
        ends.update(torch.tensor([bottom + (low - bottom) * share, top + (high - top) * share], dtype=torch.float64))
        yield activation_grid(quantizer, ends, "minmax")
