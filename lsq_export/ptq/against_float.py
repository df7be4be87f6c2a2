"""What quantization cost: the integers of a bundle beside the float network, on data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from calib.samples import arrays_of, named
from lsq_export.bundle.directory import Bundle
from lsq_export.targets import get
from lsq_export.verification.against_float import AgainstFloat
from lsq_export.verification.agreement import Agreement
from lsq_export.verification.batches import checked_batches
from lsq_export.verification.class_axis import class_axis
from lsq_export.verification.runtime import Session, inputs_of


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
        data=(bundle.manifest.get("source") or {}).get("data"),
    )
