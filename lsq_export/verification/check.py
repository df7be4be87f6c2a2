"""verify: run a bundle in ONNX Runtime and hold it against every promise (end of design part 2).

1. ONNX Runtime ≡ integer reference      every tensor of the qoperator file, graph optimization on and off
                                         (behind a float island: given the codes that ONNX Runtime's float32 made of it,
                                         islands.py)
2. integer graph ≡ folded model          layer by layer: the folded model (float64) gets the integer graph's codes as inputs, so that a flipped tie
                                         neither hides nor multiplies; accumulators exactly, codes but for ties
3. folded model against trained model    a number: agreement, SQNR, accuracy; and layer by layer on the same inputs, with reasons
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import onnx
import onnx_ir as ir
import torch
from torch import nn

from calib.errors import QuantizationError
from calib.workers import workers
from lsq_export import integer
from lsq_export.graph.evaluate import evaluate
from lsq_export.rewrite.contract.decisions import Decisions
from lsq_export.rewrite.emit import emit
from lsq_export.targets import get

from .captured import CaptureCheck
from .islands import IslandCheck
from .parity import NUDGE, FormatParity, Parity
from .runtime import Session, integer_tensors, readable_codes
from .trained_layers import TrainedLayers
from .verify_tools import Agreement, Layers, altered_parts, pairs

Progress = Callable[[int], None]
Golden = tuple[np.ndarray, dict[str, np.ndarray]]


def _nudged(x: torch.Tensor) -> torch.Tensor:
    """x · (1 + NUDGE); what would overflow stays."""
    moved = x * (1 + NUDGE)
    return torch.where(torch.isfinite(moved), moved, x)


def _evaluated(model: ir.Model, x: torch.Tensor, dtype: torch.dtype) -> list[np.ndarray]:
    return [v.numpy() for v in evaluate(model.graph, x, dtype=dtype)]


def _golden_holds(golden: Golden, reference: onnx.ModelProto) -> bool:
    """The golden outputs of a format are what the integer reference makes of the golden input."""
    x, outputs = golden
    made = integer.run(
        reference, {reference.graph.input[0].name: x}, outputs=[output.name for output in reference.graph.output]
    )
    return outputs.keys() == made.keys() and all(np.array_equal(outputs[n], made[n]) for n in made)


def check(
    model: nn.Module | None,
    trained: ir.Model,
    folded: ir.Model,
    files: dict[str, onnx.ModelProto],
    target: str,
    batches: Iterable[object],
    *,
    decisions: Decisions | None = None,
    damaged: tuple[str, ...] = (),
    golden: Mapping[str, Golden] | None = None,
    progress: Progress | None = None,
) -> Parity:
    """`verify` on graphs in memory. decisions: of the fold; without, it is not held against the trained model layer by
    layer.

    golden: {format: (input, {output: value})} to hold against the integer reference.
    """
    prescribed = {name: emit(folded, name, get(target)) for name in {*files, "qoperator"}}
    reference = files.get("qoperator", prescribed["qoperator"])
    runs = [
        FormatRun(name, file, reference, prescribed[name], folded, get(target).optimization)
        for name, file in files.items()
    ]
    folded_agreement, nudged = Agreement(), Agreement()
    price = TrainedLayers(trained.graph, folded.graph, *decisions) if decisions else None
    capture = CaptureCheck(trained.graph, model) if model is not None else None
    with workers() as together:
        for x, classes in pairs(batches, folded.graph):
            outputs = capture.outputs(x) if capture else None
            captured, codes = together(
                [
                    partial(_evaluated, trained, x, torch.float32),
                    partial(integer.run, reference, {reference.graph.input[0].name: x.numpy()}),
                ]
            )
            if capture and outputs:
                capture.add(x, captured, outputs)
            expected = outputs or captured
            *_, moved, predicted = together(
                [
                    *(partial(run.add, x.numpy(), codes, expected, classes) for run in runs),
                    *([partial(price.add, x, codes)] if price else []),
                    partial(_evaluated, trained, _nudged(x), torch.float32),
                    partial(_evaluated, folded, x, torch.float64),
                ]
            )
            nudged.add(moved, captured, None)
            folded_agreement.add(predicted, expected, classes)
            if progress:
                progress(folded_agreement.images)
    if not folded_agreement.images:
        raise QuantizationError("there is nothing to verify on: the batches are empty")
    return Parity(
        formats={run.name: run.result() for run in runs},
        images=folded_agreement.images,
        trained_accuracy=folded_agreement.expected_accuracy,
        folded_accuracy=folded_agreement.accuracy,
        folded_top1_agreement=folded_agreement.top1,
        folded_sqnr_db=folded_agreement.sqnr_db,
        capture_error=capture.error if capture else None,
        captured_layers=capture.layers() if capture else (),
        nudged_top1_agreement=nudged.top1,
        nudged_sqnr_db=nudged.sqnr_db,
        damaged=damaged,
        golden=tuple(
            name for name, vectors in (golden or {}).items() if not _golden_holds(vectors, prescribed["qoperator"])
        ),
        trained_layers=price.result() if price else (),
    )


@dataclass
class FormatRun:
    """One file while the batches go by."""

    name: str
    file: onnx.ModelProto
    reference: onnx.ModelProto
    prescribed: onnx.ModelProto
    folded: ir.Model
    level: str
    agreement: Agreement = field(default_factory=Agreement)
    mismatches: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.exact = exact = self.name == "qoperator"
        self.islands = IslandCheck(self.folded.graph, self.reference)
        self.plain = Session(self.file, self.level, self.islands.codes if exact else None, what=self.name)
        self.readable = {} if exact else readable_codes(self.file)
        tensors = integer_tensors(self.file) if exact else [r.values for r in self.readable.values()]
        levels = ("default", "disabled") if exact else ("disabled",)
        self.wide = [Session(self.file, level, tensors, what=self.name) for level in levels]
        self.layers = Layers(self.folded.graph, self.file if exact else None)

    def add(
        self, x: np.ndarray, codes: dict[str, np.ndarray], expected: list[np.ndarray], classes: np.ndarray | None
    ) -> None:
        outputs = self.plain.run(x)
        expected_codes = self.islands.expected(x, codes, outputs) if self.exact else codes
        self._compare(outputs, expected_codes)
        seen = outputs
        for session in self.wide:
            seen = session.run(x)
            if self.exact:
                expected_codes = self.islands.expected(x, codes, seen)
                self._compare(self.islands.outside(seen), expected_codes)
        codes = expected_codes
        if not self.exact:
            names = {output.name for output in self.file.graph.output}
            codes = {n: v for n, v in seen.items() if n in names} | {
                n: r.codes(seen[r.values]) for n, r in self.readable.items()
            }
        self.layers.add(x, codes)
        self.agreement.add([outputs[output.name] for output in self.file.graph.output], expected, classes)

    def _compare(self, found: dict[str, np.ndarray], codes: dict[str, np.ndarray]) -> None:
        for name, value in found.items():
            wanted = codes.get(name)
            if wanted is None or value.shape != wanted.shape:
                self.mismatches[name] += value.size
            elif not np.array_equal(value, wanted):
                self.mismatches[name] += int((value != wanted).sum())

    def result(self) -> FormatParity:
        return FormatParity(
            name=self.name,
            top1_agreement=self.agreement.top1,
            sqnr_db=self.agreement.sqnr_db,
            accuracy=self.agreement.accuracy,
            reference_mismatch=sum(self.mismatches.values()),
            first_mismatch=next(
                (n for n in [*integer_tensors(self.reference), *self.mismatches] if self.mismatches.get(n)), None
            ),
            accumulator_mismatch=self.layers.accumulator_mismatch,
            output_mismatch=self.layers.output_mismatch,
            altered=altered_parts(self.file, self.prescribed),
            layers=self.layers.result(),
            islands=self.islands.result() if self.exact else (),
        )
