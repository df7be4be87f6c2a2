"""The checks behind `verify`, on graphs in memory: run them in ONNX Runtime and hold them against every promise.

1. ONNX Runtime ≡ integer reference      every tensor of the qoperator file, graph optimization on and off (after a
                                         float island: given the codes that ONNX Runtime's float32 made of it)
2. integer graph ≡ folded model          layer by layer: the folded model (float64) gets the integer graph's codes as
                                         inputs; accumulators exactly, codes but for ties
3. folded model against trained model    a number: agreement, SQNR, accuracy; and layer by layer on the same inputs,
                                         with reasons
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from torch import nn

from calib.batches import InputKey, nothing_in
from calib.errors import QuantizationError
from calib.samples import Arrays, Input, arrays_of, named
from calib.workers import Run, workers
from lsq_export import integer
from lsq_export.files import large_onnx
from lsq_export.graph.evaluate import evaluate
from lsq_export.graph.islands import float_outputs
from lsq_export.rewrite.contract.decisions import Decisions
from lsq_export.rewrite.emit import emit
from lsq_export.rewrite.fold import Folded
from lsq_export.targets import Target, adjusted, get

from .agreement import Agreement
from .batches import checked_batches
from .captured import CaptureCheck, Original
from .class_axis import class_axis
from .format_parity import EXACT
from .format_run import FormatFile, format_run
from .layer_parity import float_rounding
from .output_parts import OutputParts
from .parity import Parity
from .runtime import inputs_of
from .trained_layers import TrainedLayers
from .yardstick import Yardstick

Progress = Callable[[int], None]
Golden = tuple[Arrays, Mapping[str, np.ndarray]]  # (input or inputs, {output: value})


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is verified.

    trained, folded: the captured graph and the folded model. files: {format: file}. target: by name. decisions: of the
    fold; without them, it is not held against the trained model layer by layer. damaged: files of the bundle that are
    not what its sums say. golden: {format: golden vectors} to hold against the integer reference. asked: the operator
    set and the batch of the files, where they are not the target's (`lsq_export.targets.asked_of`). fresh: the files
    were made of `folded` just now, and not read from anywhere.
    """

    trained: ir.Model
    folded: ir.Model
    files: Mapping[str, onnx.ModelProto]
    target: str
    decisions: Decisions | None = None
    damaged: tuple[str, ...] = ()
    golden: Mapping[str, Golden] = field(default_factory=dict)
    asked: Mapping[str, Any] = field(default_factory=dict)
    fresh: bool = False

    @staticmethod
    def of(
        folded: Folded, files: Mapping[str, onnx.ModelProto], target: str, asked: Mapping[str, Any] | None = None
    ) -> Subject:
        """What a fold gave, and the files that were made of it."""
        return Subject(
            trained=folded.trained,
            folded=folded.model,
            files=files,
            target=target,
            decisions=(folded.tensors, folded.layers),
            asked=asked or {},
        )


def check(
    subject: Subject,
    batches: Iterable[object],
    *,
    model: nn.Module | Original | None = None,
    progress: Progress | None = None,
    input_key: InputKey | None = None,
) -> Parity:
    """Run on batches of inputs [N, …] or (input, target) pairs.

    model: what was trained, if it is there. progress(images so far) is called after each batch.
    input_key: see `calib.initialize`.
    Errors (QuantizationError): a file that ONNX Runtime cannot run, batches that do not fit or are empty.
    """
    findings = _Findings(subject, model)
    with workers(together=findings.is_light) as together:
        for x, classes in checked_batches(batches, subject.folded.graph, input_key):
            findings.add(x, classes, together)
            if progress:
                progress(findings.images)
    if not findings.images:
        raise QuantizationError(f"there is nothing to verify on: the batches are empty ({nothing_in(batches)})")
    return findings.parity()


class _Findings:
    """All comparisons of a subject, batch by batch."""

    def __init__(self, subject: Subject, model: nn.Module | Original | None) -> None:
        self._subject = subject
        target, files = _target_of(subject), subject.files
        self._axis = class_axis(subject.trained.graph)
        self._reference = files[EXACT] if EXACT in files else _prescribed(subject, EXACT)
        self._formats = {name: format_run(self._format_file(name, target.optimization)) for name in files}
        trained, folded = subject.trained.graph, subject.folded.graph
        self._capture = CaptureCheck(trained, model) if model is not None else None
        self._price = TrainedLayers(trained, folded, *subject.decisions) if subject.decisions else None
        self._folded, self._yardstick = Agreement(self._axis), Yardstick(subject.trained)
        self._parts = OutputParts(subject.trained.graph)

    def _format_file(self, name: str, level: str) -> FormatFile:
        return FormatFile(
            name=name,
            file=self._subject.files[name],
            reference=self._reference,
            prescribed=partial(_prescribed, self._subject, name),  # no method of self: that would be a cycle
            folded=self._subject.folded.graph,
            level=level,
            axis=self._axis,
        )

    @property
    def is_light(self) -> bool:
        """Whether several comparisons may have the constants in memory at once."""
        return large_onnx.is_light(self._reference)

    @property
    def images(self) -> int:
        """How many were compared so far."""
        return self._folded.images

    def add(self, x: Input, classes: np.ndarray | None, together: Run) -> None:
        """One batch, its independent parts side by side."""
        outputs = self._capture.outputs(x) if self._capture else None
        trained = self._subject.trained
        captured, reference = together(
            [partial(_evaluated, trained, x, torch.float32), partial(self._reference_tensors, x)]
        )
        if self._capture and outputs:
            self._capture.add(x, captured, outputs)
        expected = outputs or captured
        *_, nudged, folded = together(
            [
                *(partial(run.add, arrays_of(x), reference, expected, classes) for run in self._formats.values()),
                *([partial(self._price.add, x, reference)] if self._price else []),
                partial(self._yardstick.add, x, captured),
                partial(_evaluated, self._subject.folded, x, torch.float64),
            ]
        )
        self._folded.add(folded, expected, classes, len(x))
        self._parts.add(x, folded, expected, nudged, captured)

    def _reference_tensors(self, x: Input) -> dict[str, np.ndarray]:
        """Every tensor of the integer reference."""
        return integer.run(self._reference, named(arrays_of(x), inputs_of(self._reference)))

    def parity(self) -> Parity:
        """What was found so far."""
        golden = self._subject.golden
        prescribed = _prescribed(self._subject, EXACT) if golden else self._reference
        yardstick = self._yardstick.result()
        names = [str(output.name) for output in self._subject.trained.graph.outputs]
        return Parity(
            formats={name: run.result() for name, run in self._formats.items()},
            images=self.images,
            trained_accuracy=self._folded.expected_accuracy,
            folded_accuracy=self._folded.accuracy,
            folded_top1_agreement=self._folded.top1,
            folded_sqnr_db=self._folded.sqnr_db,
            capture_error=self._capture.error if self._capture else None,
            captured_layers=self._capture.layers() if self._capture else (),
            steady=self._capture.steady if self._capture else True,
            nudged_top1_agreement=yardstick.top1,
            nudged_sqnr_db=yardstick.sqnr_db,
            parts=self._parts.result(),
            folded_outputs_sqnr_db=self._folded.by_output(names),
            nudged_outputs_sqnr_db=yardstick.by_output(names),
            same_integers={names[index]: share for index, share in self._folded.same_integers.items()},
            damaged=self._subject.damaged,
            golden=tuple(
                name
                for name, vectors in golden.items()
                if not _golden_holds(vectors, prescribed, float_outputs(self._subject.folded.graph))
            ),
            trained_layers=self._price.result() if self._price else (),
        )


def _prescribed(subject: Subject, name: str) -> onnx.ModelProto:
    """The file of a format as the folded model prescribes it."""
    if subject.fresh and name in subject.files:
        return subject.files[name]
    return emit(subject.folded, name, _target_of(subject))


def _target_of(subject: Subject) -> Target:
    return adjusted(get(subject.target), **subject.asked)


def _evaluated(model: ir.Model, x: Input, dtype: torch.dtype) -> list[np.ndarray]:
    return [v.numpy() for v in evaluate(model.graph, x, dtype=dtype)]


def _golden_holds(golden: Golden, reference: onnx.ModelProto, rounded: Collection[str]) -> bool:
    """Whether the golden outputs of a format are what the integer reference makes of the golden input.

    rounded: outputs that stay float, whose last bits depend on the machine.
    """
    x, outputs = golden
    names = [output.name for output in reference.graph.output]
    expected = integer.run(reference, named(x, inputs_of(reference)), outputs=names)
    if outputs.keys() != expected.keys() or any(outputs[n].shape != expected[n].shape for n in expected):
        return False
    return all(
        np.abs(outputs[n] - expected[n]).max(initial=0) <= float_rounding(expected[n])
        if n in rounded and expected[n].dtype.kind == "f"
        else np.array_equal(outputs[n], expected[n])
        for n in expected
    )
