"""What a network of the comparison is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np

Arrays = Mapping[str, np.ndarray]
Run = Callable[[Arrays], list[np.ndarray]]  # inputs [N, …] of a network -> its outputs
BATCH = 16


@dataclass(frozen=True)
class Samples:
    """calibration, evaluation: the inputs by name, [N, …] each. truth: what is known of the evaluation, or nothing."""

    calibration: Arrays
    evaluation: Arrays
    truth: np.ndarray | None = None


class Network(ABC):
    """name: in the table. metric: what `score` counts, in percent; the higher, the better."""

    name: ClassVar[str]
    metric: ClassVar[str]
    batch: ClassVar[int] = BATCH

    @abstractmethod
    def model(self, path: Path) -> None:
        """Write the float network, ONNX, to path."""

    @abstractmethod
    def samples(self, model: Path) -> Samples:
        """Seeded: the same samples every time."""

    def outputs(self, run: Run, inputs: Arrays) -> list[np.ndarray]:
        """What the network makes of inputs [N, …], in batches."""
        found = [run(part) for part in batches(inputs, self.batch)]
        return [np.concatenate(parts) for parts in zip(*found, strict=True)]

    def calibration(self, samples: Arrays) -> Iterator[dict[str, np.ndarray]]:
        """Batches of the samples of the calibration, as the file takes them."""
        yield from batches(samples, BATCH)

    def one(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """One sample of the evaluation, as the network takes it."""
        return {name: array[:1] for name, array in inputs.items()}

    @abstractmethod
    def score(self, outputs: list[np.ndarray], expected: list[np.ndarray], truth: np.ndarray | None) -> float:
        """0 … 1. outputs, expected: those of a quantized and of the float network."""


def batches(inputs: Arrays, size: int) -> Iterator[dict[str, np.ndarray]]:
    """The inputs, so many samples at a time."""
    count = len(next(iter(inputs.values())))
    for start in range(0, count, size):
        yield {name: array[start : start + size] for name, array in inputs.items()}


def folder_of(package: str) -> Path:
    """Where an installed package is, without importing it."""
    spec = find_spec(package)
    assert spec is not None and spec.origin is not None, f"{package} is not installed"
    return Path(spec.origin).parent


def same(outputs: np.ndarray, expected: np.ndarray) -> float:
    """Share of samples with the same largest element, [N, classes]."""
    return float((outputs.argmax(-1) == expected.argmax(-1)).mean())
