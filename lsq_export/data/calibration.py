"""Calibration data on their way into the fold: they are checked as they pass, and the first images are kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

import calib
from calib.errors import QuantizationError


class Calibration:
    """Inputs [N, *shape], float32 on the CPU, from batches of inputs or (input, target) pairs, which are read once.

    keep: how many of the first images stay in memory.

    Errors (QuantizationError): a batch of another shape, or with NaN or infinity in it.
    """

    def __init__(self, batches: Iterable[object], shape: tuple[int, ...], keep: int) -> None:
        self._batches, self._shape, self._missing = batches, shape, keep
        self._kept: list[torch.Tensor] = []

    def __iter__(self) -> Iterator[torch.Tensor]:
        for index, x in enumerate(calib.inputs(self._batches, torch.device("cpu"))):
            if tuple(x.shape[1:]) != self._shape:
                raise QuantizationError(
                    f"calibration batch {index} has inputs of shape {list(x.shape[1:])}, "
                    f"the example input has {list(self._shape)}: use one shape"
                )
            if not torch.isfinite(x).all():
                raise QuantizationError(f"calibration batch {index} holds NaN or infinity: check the data")
            x = x.float()
            if self._missing > 0:
                self._kept.append(x[: self._missing].clone())
                self._missing -= len(self._kept[-1])
            yield x

    @property
    def images(self) -> torch.Tensor:
        """The first images, [N, *shape], once the batches have been read."""
        return torch.cat(self._kept)
