"""Bias correction: the mean error of each output channel, and which of these means are beyond chance.

Nagel et al. 2019, "Data-free quantization through weight equalization and bias correction" (arXiv:1906.04721), section
4.2, measured on data: b_c <- b_c - m_c with m_c = E[ỹ_c - y_c]. Subtracting m_c lowers the mean squared error of the
channel by m_c², whose standard error is 2·|m_c|·SE_c; so it pays where |m_c| > 2·SE_c, and noise moves no bias.
"""

from __future__ import annotations

import numpy as np
import torch

from calib.grid import FloatArray

STANDARD_ERRORS = 2.0
LEAST_IMAGES = 8  # fewer give no standard error
# Share of the root mean square of the layer's outputs: 2^-10 of a step at 4 bits, and far beyond float rounding.
NEGLIGIBLE = 1e-4


class ChannelErrors:
    """Errors of one layer's outputs, channel by channel, in one pass over any number of batches.

    It holds a few numbers for each channel. Images are the independent samples; pixels of one image are not.
    """

    def __init__(self, channels: int) -> None:
        self.images = 0
        self._mean: FloatArray = np.zeros(channels)  # [C]
        self._deviation = np.zeros(channels)  # [C]: Σ over images of (mean of the image - mean)²
        self._squared_error = self._square = 0.0  # means over all elements so far

    @torch.no_grad()
    def update(self, outputs: torch.Tensor, expected: torch.Tensor) -> None:
        """Add a batch: the layer's outputs and what they should be, both float [N, C, …]."""
        n, error = len(outputs), (outputs - expected).double()
        of_images = error.flatten(2).mean(2).numpy() if error.dim() > 2 else error.numpy()  # [N, C]
        mean, total = of_images.mean(axis=0), self.images + n
        step = mean - self._mean
        self._deviation += np.square(of_images - mean).sum(axis=0) + step**2 * self.images * n / total  # Chan's update
        self._mean += step * n / total
        self._squared_error += (float(error.square().mean()) - self._squared_error) * n / total
        self._square += (float(expected.double().square().mean()) - self._square) * n / total
        self.images = total

    @property
    def mean(self) -> FloatArray:
        """The mean errors m, [C]."""
        return np.array(self._mean)

    @property
    def standard_error(self) -> FloatArray:
        """Standard error of the means, [C]; infinite for fewer images than LEAST_IMAGES."""
        if self.images < LEAST_IMAGES:
            return np.full(len(self._mean), np.inf)
        return np.asarray(np.sqrt(self._deviation / (self.images - 1) / self.images))

    @property
    def correction(self) -> FloatArray:
        """What to add to the bias, [C]: -m, or 0 where that is within chance or negligible."""
        least = np.maximum(STANDARD_ERRORS * self.standard_error, NEGLIGIBLE * np.sqrt(self._square))
        return np.where(np.abs(self._mean) > least, -self._mean, 0.0)

    @property
    def squared_error(self) -> tuple[float, float]:
        """Mean squared error of the outputs as they are, and with the correction.

        Both are divided by the mean square of the expected outputs.
        """
        before = self._squared_error
        after = max(0.0, before - float(np.square(self.correction).mean()))
        square = self._square or 1.0
        return before / square, after / square
