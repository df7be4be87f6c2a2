"""Calibration data on their way into the fold: they are checked as they pass, and the first images are kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from calib.batches import InputKey, hint_of_shape, inputs, varying
from calib.errors import QuantizationError


class Calibration:
    """Inputs [N, *shape], float32 on the CPU, from batches of inputs or (input, target) pairs, which are read once.

    keep: how many of the first images stay in memory. input_key: see `calib.initialize`.

    Errors (QuantizationError): a batch of another shape, or with NaN or infinity in it; inputs that are all the same.
    """

    def __init__(
        self, batches: Iterable[object], shape: tuple[int, ...], keep: int, input_key: InputKey | None = None
    ) -> None:
        self._batches, self._shape, self._missing, self._input_key = batches, shape, keep, input_key
        self._kept: list[torch.Tensor] = []
        self._checked = self._read()
        self._first: list[torch.Tensor] = []

    def begin(self) -> None:
        """Read the first batch: what is wrong with all of them shows before the work, not after it."""
        self._first = [next(self._checked)]

    def __iter__(self) -> Iterator[torch.Tensor]:
        yield from self._first
        self._first = []
        yield from self._checked

    def _read(self) -> Iterator[torch.Tensor]:
        xs = varying(inputs(self._batches, torch.device("cpu"), self._input_key))
        for index, x in enumerate(xs):
            if tuple(x.shape[1:]) != self._shape:
                raise QuantizationError(
                    f"calibration batch {index} has inputs of shape {list(x.shape[1:])}, "
                    f"the example input has {list(self._shape)}: {hint_of_shape(tuple(x.shape), self._shape)}"
                )
            x = x.detach().float()
            if self._missing > 0:
                self._kept.append(x[: self._missing].clone())
                self._missing -= len(self._kept[-1])
            yield x

    @property
    def images(self) -> torch.Tensor:
        """The first images, [N, *shape], once the batches have been read."""
        return torch.cat(self._kept)
