"""What quantization cost: the integers of a bundle beside the float network, on data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from calib.samples import arrays_of, named
from calib.words import counted
from lsq_export.bundle.directory import Bundle
from lsq_export.targets import get
from lsq_export.verification.agreement import Agreement
from lsq_export.verification.batches import checked_batches
from lsq_export.verification.class_axis import class_axis
from lsq_export.verification.numbers import by_output, decibel, percent
from lsq_export.verification.runtime import Session, inputs_of


@dataclass(frozen=True, kw_only=True)
class AgainstFloat:
    """images: compared. same_class: share of all that have a class. sqnr_db: of the worst output. None: no classes.

    outputs: {output: its SQNR in dB}, where there are several of floats. of: the output that has the classes, then.
    """

    images: int
    same_class: float | None
    sqnr_db: float
    float_accuracy: float | None
    integer_accuracy: float | None
    outputs: Mapping[str, float] = field(default_factory=dict)
    of: str = ""

    @property
    def accuracies(self) -> str:
        """float 98.33% -> integer 98.05% (359 test images); "" where the data have no classes."""
        if self.float_accuracy is None:
            return ""
        both = f"float {percent(self.float_accuracy)} -> integer {percent(self.integer_accuracy)}"
        return f"{both} ({counted(self.images, 'test image')})"

    def __str__(self) -> str:
        right = (
            f"; right: float {percent(self.float_accuracy)}, integers {percent(self.integer_accuracy)}"
            if self.float_accuracy is not None
            else ""
        )
        where = f" (output {self.of})" if self.of else ""
        same = f"same class{where} {percent(self.same_class)} of " if self.same_class is not None else ""
        error = f"error {decibel(self.sqnr_db)} below the outputs{by_output(self.outputs)}"
        return f"against float  {same}{counted(self.images, 'test image')}, {error}{right}"


def compare(
    float_outputs: Callable[[Any], Sequence[np.ndarray]], bundle: Bundle, batches: Iterable[object]
) -> AgainstFloat:
    """The first format of the bundle in ONNX Runtime, as its target is verified, beside float_outputs(x), on batches
    [N, …].
    """
    from lsq_export.bundle.subject import subject_of

    subject, name = subject_of(bundle), next(iter(bundle.models))
    file = subject.files[name]  # its outputs are values
    session = Session(file, get(subject.target).optimization, what=name, library=name == "lookup")
    found = Agreement(class_axis(subject.trained.graph))
    for x, classes in checked_batches(batches, subject.folded.graph):
        integers = list(session.run(named(arrays_of(x), inputs_of(file))).values())
        found.add(integers, list(float_outputs(x)), classes, len(x))
    names = [str(output.name) for output in subject.folded.graph.outputs]
    return AgainstFloat(
        outputs=found.by_output(names),
        of=names[0] if len(names) > 1 else "",
        images=found.images,
        same_class=found.top1,
        sqnr_db=found.sqnr_db,
        float_accuracy=found.expected_accuracy,
        integer_accuracy=found.accuracy,
    )
