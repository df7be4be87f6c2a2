"""What quantization cost: the integers of a bundle beside the float network, on data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from calib.samples import arrays_of, named
from lsq_export.bundle.directory import Bundle
from lsq_export.verification.agreement import Agreement
from lsq_export.verification.batches import checked_batches
from lsq_export.verification.class_axis import class_axis
from lsq_export.verification.numbers import decibel, percent
from lsq_export.verification.runtime import Session, inputs_of


@dataclass(frozen=True, kw_only=True)
class AgainstFloat:
    """images: compared. same_class: share of all that have a class. sqnr_db: of the worst output. None: no classes."""

    images: int
    same_class: float | None
    sqnr_db: float
    float_accuracy: float | None
    integer_accuracy: float | None

    @property
    def accuracies(self) -> str:
        """float 98.33% -> integer 98.05% (359 test images); "" where the data have no classes."""
        if self.float_accuracy is None:
            return ""
        both = f"float {percent(self.float_accuracy)} -> integer {percent(self.integer_accuracy)}"
        return f"{both} ({self.images} test images)"

    def __str__(self) -> str:
        right = (
            f"; right: float {percent(self.float_accuracy)}, integers {percent(self.integer_accuracy)}"
            if self.float_accuracy is not None
            else ""
        )
        same = f"same class {percent(self.same_class)} of " if self.same_class is not None else ""
        return f"against float  {same}{self.images} test images, error {decibel(self.sqnr_db)} below the outputs{right}"


def compare(
    float_outputs: Callable[[Any], Sequence[np.ndarray]], bundle: Bundle, batches: Iterable[object]
) -> AgainstFloat:
    """The first format of the bundle in ONNX Runtime beside float_outputs(x), on batches [N, …]."""
    from lsq_export.bundle.subject import subject_of

    name, path = next(iter(bundle.models.items()))
    file = onnx.load(path)
    subject = subject_of(bundle)
    session = Session(file, what=name, library=name == "lookup")
    found = Agreement(class_axis(subject.trained.graph))
    for x, classes in checked_batches(batches, subject.folded.graph):
        integers = list(session.run(named(arrays_of(x), inputs_of(file))).values())
        found.add(integers, list(float_outputs(x)), classes, len(x))
    return AgainstFloat(
        images=found.images,
        same_class=found.top1,
        sqnr_db=found.sqnr_db,
        float_accuracy=found.expected_accuracy,
        integer_accuracy=found.accuracy,
    )
