"""Arrays that stand for samples: which of their axes counts samples, and the data set that they make.

What a network takes tells a sample from a batch: with as many axes as one sample has, an array is a sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch

from calib.errors import QuantizationError
from calib.samples import Input, Samples

from .dataset import Dataset, Source, Split, TensorSplit
from .splitting import DRAWN, stratified_split

Named: TypeAlias = "Mapping[str, np.ndarray]"  # inputs [N, …] of a batch; "" for the only one
AS_IT_IS = {"resize": None, "interpolation": None, "crop": None, "divide_by": None, "mean": None, "std": None}


@dataclass(frozen=True)
class Wanted:
    """What the network takes.

    shape: without the batch, with None for open sizes; {name: shape} of several inputs; None where it is not known.
    """

    shape: Any = None

    @property
    def names(self) -> tuple[str, ...]:
        """Of several inputs; nothing for one."""
        return tuple(self.shape) if isinstance(self.shape, Mapping) else ()

    def axes(self, name: str) -> int | None:
        """How many axes one sample of an input has; None where that is not known."""
        shape = self.shape.get(name) if isinstance(self.shape, Mapping) else self.shape
        if isinstance(self.shape, Mapping) and len(self.shape) == 1:
            (shape,) = self.shape.values()
        return None if shape is None else len(shape)

    def is_batch(self, where: str, name: str, shape: tuple[int, ...], unknown: bool) -> bool:
        """Whether an array of an input has a first axis that counts samples. unknown: the answer where nothing tells.

        Errors (QuantizationError): neither a sample nor a batch. where: the array, for the message.
        """
        axes = self.axes(name)
        if axes is None:
            return unknown
        if len(shape) not in (axes, axes + 1):
            wanted = self.shape[name] if name in self.names else self.shape
            raise QuantizationError(
                f"{where} has the shape {list(shape)}, a sample of the network's input {plain(wanted)}: give arrays of "
                "that shape, or batches of them"
            )
        return len(shape) == axes + 1


def plain(shape: Any) -> list[Any]:
    """A shape as messages show it: ? for an open size."""
    (sizes,) = shape.values() if isinstance(shape, Mapping) and len(shape) == 1 else (shape,)
    return ["?" if size is None else size for size in sizes]


def as_taken(where: str, array: np.ndarray) -> np.ndarray:
    """The values in the type in which they go to the network. Errors (QuantizationError): no numbers; NaN, infinity."""
    kind = checked_kind(where, array.dtype)
    with np.errstate(over="ignore"):
        values: np.ndarray = np.array(array, kind, order="C")
    finite = np.isfinite(values)
    if not finite.all():
        first = np.argwhere(~finite)[0].tolist()
        raise QuantizationError(f"{where} holds NaN or infinity (first at {first}): remove such samples")
    return values


def checked_kind(what: str, kind: np.dtype[Any]) -> type[np.generic]:
    """The type in which an array goes to the network. Errors (QuantizationError): none."""
    found: type[np.generic] | None = {"f": np.float32, "i": np.int64, "b": np.bool_}.get(kind.kind)
    if found is None:
        pixels = " (npz:FILE takes images of uint8, too, and divides by 255)" if kind == np.uint8 else ""
        raise QuantizationError(f"{what} is {kind}: use float32, int64 or bool, as the network takes it{pixels}")
    return found


def forms_of(x: Named) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """{input: (shape of a sample, type)} of a batch."""
    return {name: (array.shape[1:], array.dtype) for name, array in x.items()}


def joined(batches: Sequence[Named], names: Iterable[str]) -> Input:
    """All samples of batches of the same forms: a tensor [N, …], or several inputs in the order of the names."""
    tensors = {name: torch.from_numpy(np.concatenate([batch[name] for batch in batches])) for name in names}
    return Samples(tensors) if len(tensors) > 1 else next(iter(tensors.values()))


def drawn(everything: TensorSplit, where: str) -> tuple[TensorSplit, TensorSplit]:
    """(train, test): one in five samples, of each class where there are classes, is test. where: for messages."""
    y = everything.y.numpy() if everything.y.dim() == 1 else np.zeros(len(everything))
    train, test = (TensorSplit(*everything.fetch(torch.from_numpy(part))) for part in stratified_split(y, where))
    return train, test


def dataset_of(name: str, kind: str, splits: tuple[Split, Split], shape: Any, classes: int, *, own: bool) -> Dataset:
    """The data set of two splits whose samples go to the network as they are.

    kind: of the data, for the manifest. shape: of a sample. classes: 0 for none. own: the source
    has splits of its own.
    """
    return Dataset(
        name=name,
        train=splits[0],
        test=splits[1],
        num_classes=classes,
        input_shape=shape,
        preprocessing={"data": kind, **AS_IT_IS},
        source=Source(split="" if own else DRAWN),
    )
