"""Outputs against the trained model's: classes, and signal to noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from calib.errors import QuantizationError


class Agreement:
    """Outputs against the trained model's, batch by batch.

    axis: along which the classes of the first output lie (`class_axis.py`). The SQNR is that of the worst output.
    Integers (classes, places, masks) are no signals: they are the same or not, and have an SQNR only where all outputs
    are such. An output [N] has one number an image, and no classes; one that does not have the batch in front (the same
    for all images, say) is taken for that of one image.
    """

    def __init__(self, axis: int = 1) -> None:
        self._axis = axis
        self._powers: dict[int, tuple[float, float]] = {}  # {output: (signal, noise)}
        self._equal: dict[int, tuple[int, int]] = {}  # {output of integers: (same, all)}
        self.images = self._same = self._places = self._labelled = self._right = self._expected_right = 0

    def add(
        self,
        outputs: Sequence[np.ndarray],
        expected: Sequence[np.ndarray],
        classes: np.ndarray | None,
        images: int | None = None,
    ) -> None:
        """All outputs of a batch. expected: the trained model's. classes: the targets [N, …], if there are any.

        images: how many they are; None: as many as the first output has rows.
        """
        if outputs[0].shape != expected[0].shape:
            raise QuantizationError(
                f"the outputs have the shape {list(outputs[0].shape)}, the trained model's {list(expected[0].shape)}"
            )
        images = len(outputs[0]) if images is None else images
        self.images += images
        ours, theirs = (classes_of(values[0], images, self._axis) for values in (outputs, expected))
        if ours is not None and theirs is not None:
            self._places += ours.size
            self._same += int((ours == theirs).sum())
            if classes is not None and classes.shape == ours.shape:
                self._labelled += classes.size
                self._right += int((ours == classes).sum())
                self._expected_right += int((theirs == classes).sum())
        for index, (output, trained) in enumerate(zip(outputs, expected, strict=True)):
            if is_numbers(trained):
                same, every = self._equal.get(index, (0, 0))
                self._equal[index] = same + int((output == trained).sum()), every + trained.size
            signal, noise = self._powers.get(index, (0.0, 0.0))
            self._powers[index] = (
                signal + float(np.square(trained, dtype=np.float64).sum()),
                noise + float(np.square(output.astype(np.float64) - trained.astype(np.float64)).sum()),
            )

    @property
    def top1(self) -> float | None:
        """Share of the classes that are the trained model's; None where the output has none."""
        return self._same / self._places if self._places else None

    @property
    def accuracy(self) -> float | None:
        """Share of the classes that are the targets; None without targets."""
        return self._right / self._labelled if self._labelled else None

    @property
    def expected_accuracy(self) -> float | None:
        """The trained model's accuracy."""
        return self._expected_right / self._labelled if self._labelled else None

    @property
    def sqnr_db(self) -> float:
        """Signal to noise of the worst output, in decibel; infinite if all are equal."""
        judged = [self._powers[index] for index in self._signals] or self._powers.values()
        return min((decibels(signal, noise) for signal, noise in judged), default=math.inf)

    @property
    def _signals(self) -> list[int]:
        """The outputs that are no integers."""
        return [index for index in self._powers if index not in self._equal]

    def by_output(self, names: Sequence[str]) -> dict[str, float]:
        """{output: its SQNR in decibel}, where several have one; else nothing. names: of all outputs."""
        found = {names[index]: decibels(*self._powers[index]) for index in self._signals}
        return found if len(found) > 1 else {}

    @property
    def same_integers(self) -> dict[int, float]:
        """{output of integers or masks: share of them that are the trained model's}."""
        return {index: same / every for index, (same, every) in self._equal.items() if every}


def is_numbers(output: np.ndarray) -> bool:
    """Whether an output holds integers or a mask."""
    return output.dtype.kind in "iub"


def classes_of(output: np.ndarray, images: int, axis: int) -> np.ndarray | None:
    """[N, …] of the first output. Integers [N] are classes; one number for each place says nothing of a class: None."""
    if is_numbers(output) and output.ndim == 1:
        return output
    rows = by_image(output, images)
    axis = min(axis, rows.ndim - 1)
    return np.asarray(rows.argmax(axis=axis)) if rows.shape[axis] > 1 else None


def by_image(output: np.ndarray, images: int) -> np.ndarray:
    """The output [N, classes, …]; [N] becomes [N, 1], and what has no batch in front is that of one image."""
    rows = output if output.ndim and len(output) == images else output[None]
    return rows if rows.ndim > 1 else rows[:, None]


def decibels(signal: float, noise: float) -> float:
    """The SQNR of two sums of squares: inf without noise, -inf without a signal; rounding may make them negative."""
    if noise <= 0:
        return math.inf
    return -math.inf if signal <= 0 or math.isinf(noise) else 10 * math.log10(signal / noise)
