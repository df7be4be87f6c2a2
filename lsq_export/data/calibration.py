"""Calibration data on their way into the fold: they are checked as they pass, and the first images are kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from calib.batches import InputKey, hint_of_shape, inputs, varying
from calib.errors import QuantizationError
from calib.samples import Samples, each, each_float, fits, in_words, joined, parts_of, shape_of
from calib.signature import SINGLE, Takes


def varying_shape(shape: Any, varying: Mapping[str, Mapping[int, str]]) -> Any:
    """The shape without the batch, as `shape_of` gives it, with None for axes that vary, which count the batch."""
    if isinstance(shape, Mapping):
        return {name: varying_shape(sizes, {"": varying.get(name, {})}) for name, sizes in shape.items()}
    axes = {axis for of_input in varying.values() for axis in of_input}
    return tuple(None if axis in axes else size for axis, size in enumerate(shape, 1))


class Calibration:
    """Inputs [N, *shape], float32 on the CPU, from batches of inputs or (input, target) pairs, which are read once.

    shape: {name: shape} of several inputs, which become `Samples`; None is any size. keep: how many of the first images
    stay in memory. input_key: see `calib.initialize`. takes: what the network takes. single: samples come one by one.

    Errors (QuantizationError): a batch of another shape, or with NaN or infinity in it; inputs that are all the same.
    """

    def __init__(
        self,
        batches: Iterable[object],
        shape: Any,
        keep: int,
        input_key: InputKey | None = None,
        takes: Takes = SINGLE,
    ) -> None:
        self._batches, self._shape, self._missing, self._input_key = batches, shape, keep, input_key
        self._takes = takes
        self._kept: list[Any] = []
        self._checked = self._read()
        self._first: list[Any] = []
        self.single = False

    def begin(self) -> None:
        """Read the first batch: what is wrong with all of them shows before the work, not after it."""
        self._first = [next(self._checked)]

    def __iter__(self) -> Iterator[Any]:
        for x in self._all():
            yield from parts_of(x, 1) if self.single else (x,)

    def _all(self) -> Iterator[Any]:
        yield from self._first
        self._first = []
        yield from self._checked

    def _read(self) -> Iterator[Any]:
        xs = varying(inputs(self._batches, torch.device("cpu"), self._input_key, self._takes))
        for index, x in enumerate(xs):
            if isinstance(x, torch.Tensor) and isinstance(self._shape, Mapping) and len(self._shape) == 1:
                x = Samples(dict.fromkeys(self._shape, x))
            if not fits(shape_of(x), self._shape):
                several = isinstance(self._shape, Mapping) or isinstance(shape_of(x), Mapping)
                hint = "use one shape" if several else hint_of_shape(tuple(x.shape), self._shape)
                raise QuantizationError(
                    f"calibration batch {index} has inputs of shape {in_words(shape_of(x))}, "
                    f"the example input has {in_words(self._shape)}: {hint}"
                )
            x = each_float(x, lambda tensor: tensor.detach().float())
            if self._missing > 0 and (not self._kept or shape_of(x) == shape_of(self._kept[0])):
                self._kept.append(each(x, lambda tensor: tensor[: self._missing].clone()))
                self._missing -= len(self._kept[-1])
            yield x

    @property
    def images(self) -> Any:
        """The first images, [N, *shape], once the batches have been read."""
        return joined(self._kept)
