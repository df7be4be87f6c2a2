"""One sample of a data set, before and after its preprocessing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True, eq=False)
class Sample:
    """A sample for those who receive a bundle: `export(…, preprocessing=…, sample=Sample(source, x, label))`.

    source: as it was before preprocessing. Pixels uint8 [H, W] or [H, W, 3], or an array [H, W], [H, W, C] or of the
    shape of the input. x: what your own preprocessing makes of it, float32 of the shape of the input, without a batch.
    label: its class, if it is known.
    """

    source: np.ndarray
    x: torch.Tensor | np.ndarray
    label: int | None = None
