"""One exported file in ONNX Runtime, while the batches go by.

A qoperator file, and one with tables, is held to the integer reference in every tensor, with graph optimization on and
off, the latter with our library of operators and without it. A qdq file runs
in float32: its outputs are counted against the reference, and its codes are read from the values of DequantizeLinear.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from calib.samples import Arrays, count_of
from lsq_export.graph.islands import float_outputs
from lsq_export.kernels import is_built
from lsq_export.rewrite.lowering.channels_last import SUFFIX, from_last

from .agreement import Agreement
from .altered import altered_parts
from .folded_layers import FoldedLayers
from .format_parity import EXACT, EXACT_FORMATS, FormatParity
from .islands import IslandCheck
from .layer_parity import IslandParity, float_rounding
from .runtime import Session, integer_tensors, readable_codes

Tensors = Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class FormatFile:
    """A file, and what it is held against.

    name: of the format. reference: the qoperator file that the integer reference runs. prescribed(): the file as the
    folded model prescribes it, as large as that. level: ONNX Runtime's graph optimization that the file is deployed
    with. axis: along which its classes lie (`class_axis.py`).
    """

    name: str
    file: onnx.ModelProto
    reference: onnx.ModelProto
    prescribed: Callable[[], onnx.ModelProto]
    folded: ir.Graph
    level: str
    axis: int


def format_run(given: FormatFile) -> FormatRun:
    """The run that belongs to the format."""
    return IntegerRun(given) if given.name in EXACT_FORMATS else QdqRun(given)


class FormatRun(ABC):
    """What both kinds of files have in common: agreement, mismatches, and the codes layer by layer."""

    def __init__(self, given: FormatFile, layers: FoldedLayers) -> None:
        self._given, self._layers = given, layers
        self._altered = altered_parts(given.file, given.prescribed())
        self._agreement = Agreement(given.axis)
        self._float_outputs = float_outputs(given.folded)
        self._mismatches: Counter[str] = Counter()
        self._compared = 0
        self._largest = self._range = 0.0

    def add(
        self,
        x: Arrays,
        reference: dict[str, np.ndarray],
        expected: Sequence[np.ndarray],
        classes: np.ndarray | None,
    ) -> None:
        """One batch.

        x: the input [N, …]. reference: the integer reference's tensors for it. expected: the trained model's outputs.
        classes: the targets, if there are any.
        """
        outputs, codes = self._run(x, reference)
        self._measure(outputs, reference)
        self._layers.add(x, codes)
        self._agreement.add(
            [outputs[value.name] for value in self._given.file.graph.output], expected, classes, count_of(x)
        )

    @abstractmethod
    def _run(self, x: Arrays, reference: dict[str, np.ndarray]) -> tuple[Tensors, Tensors]:
        """(outputs, codes of all tensors) of the file, after their comparison with the reference."""

    def _count_mismatches(self, tensors: Tensors, reference: Tensors) -> None:
        for name, value in tensors.items():
            expected = reference.get(name)
            self._compared += value.size
            if expected is None or value.shape != expected.shape:
                self._mismatches[name] += value.size
            elif name in self._float_outputs and value.dtype.kind == "f":
                self._mismatches[name] += int((~(np.abs(value - expected) <= float_rounding(expected))).sum())
            elif not np.array_equal(value, expected):
                self._mismatches[name] += int((value != expected).sum())

    def _measure(self, outputs: Tensors, reference: Tensors) -> None:
        """How far the outputs are from the reference's at most, and how large those are."""
        for name in (value.name for value in self._given.file.graph.output):
            value, expected = outputs[name], reference.get(name)
            if expected is not None and expected.shape == value.shape and value.dtype.kind == "f":
                self._largest = max(self._largest, float(np.abs(value - expected).max(initial=0.0)))
                self._range = max(self._range, float(np.abs(expected).max(initial=0.0)))

    def _islands(self) -> tuple[IslandParity, ...]:
        return ()

    def result(self) -> FormatParity:
        """What was counted so far."""
        in_order = [*integer_tensors(self._given.reference), *self._mismatches]
        return FormatParity(
            name=self._given.name,
            top1_agreement=self._agreement.top1,
            sqnr_db=self._agreement.sqnr_db,
            accuracy=self._agreement.accuracy,
            reference_mismatch=sum(self._mismatches.values()),
            first_mismatch=next((name for name in in_order if self._mismatches.get(name)), None),
            accumulator_mismatch=self._layers.accumulator_mismatch,
            output_mismatch=self._layers.output_mismatch,
            altered=self._altered,
            layers=self._layers.result(),
            islands=self._islands(),
            reference_elements=self._compared,
            reference_largest=self._largest,
            reference_range=self._range,
            outputs_sqnr_db=self._agreement.by_output([str(output.name) for output in self._given.folded.outputs]),
        )


class IntegerRun(FormatRun):
    """A file of integers: three sessions, as it is deployed and with every tensor, optimized and not.

    A file with tables (lookup) has them twice, with our library where it is built, and its images are channels-last.
    """

    def __init__(self, given: FormatFile) -> None:
        super().__init__(given, FoldedLayers(given.folded, given.file if given.name == EXACT else None))
        self._island_check = IslandCheck(given.folded, given.reference)
        tensors = integer_tensors(given.file)
        made_by_islands = [name for name in tensors if name.removesuffix(SUFFIX) in self._island_check.codes]
        self._sessions = []
        for library in [False] if given.name == EXACT else libraries():
            self._sessions.append(Session(given.file, given.level, made_by_islands, given.name, library))
            wide = [Session(given.file, level, tensors, given.name, library) for level in ("default", "disabled")]
            self._sessions.extend(wide)

    def _run(self, x: Arrays, reference: dict[str, np.ndarray]) -> tuple[Tensors, Tensors]:
        outputs: Tensors = {}
        for session in self._sessions:
            tensors = dict(from_last(name, value) for name, value in session.run(x).items())
            expected = self._island_check.expected(x, reference, tensors)
            self._count_mismatches(self._island_check.outside(tensors), expected)
            outputs = outputs or tensors  # of the file as it is deployed
        return outputs, {name: value for name, value in expected.items() if name in tensors}

    def _islands(self) -> tuple[IslandParity, ...]:
        return self._island_check.result()


def libraries() -> list[bool]:
    """Without our library of operators, and with it where it is built."""
    return [False, True] if is_built() else [False]


class QdqRun(FormatRun):
    """A file of float operators between QuantizeLinear and DequantizeLinear: two sessions, as it is deployed and with
    the values of its codes.
    """

    def __init__(self, given: FormatFile) -> None:
        super().__init__(given, FoldedLayers(given.folded, None))
        self._deployed = Session(given.file, given.level, what=given.name)
        self._readable = readable_codes(given.file)
        values = [readable.values for readable in self._readable.values()]
        self._wide = Session(given.file, "disabled", values, given.name)

    def _run(self, x: Arrays, reference: dict[str, np.ndarray]) -> tuple[Tensors, Tensors]:
        outputs = self._deployed.run(x)
        self._count_mismatches(outputs, reference)
        tensors = self._wide.run(x)
        codes = {value.name: tensors[value.name] for value in self._given.file.graph.output}
        codes |= {name: readable.codes(tensors[readable.values]) for name, readable in self._readable.items()}
        return outputs, codes
