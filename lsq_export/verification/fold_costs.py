"""What each fold costs on the same trained model and data: naive rounding, the integer fold, the strided fold.

for cost in compare_folds(model, example, calibration, test): print(cost.fold, cost.codes_differing, cost.sqnr_db)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from calib.batches import inputs
from calib.errors import QuantizationError
from calib.garbage import drop
from calib.grid import Grid
from calib.samples import Input, each_float, numbers_of, parts_of
from calib.signature import example_of, takes_as
from calib.workers import workers
from lsq_export.graph import lockstep
from lsq_export.graph.capture import capture
from lsq_export.graph.evaluate import portions_of
from lsq_export.graph.grids import grid_of, movers_passed
from lsq_export.graph.lockstep import Made
from lsq_export.graph.read import attribute, bytes_of_constants, is_marker
from lsq_export.rewrite.fold import Folded, prepare_fold

from .agreement import Agreement
from .batches import checked_batches
from .parity import finite
from .trained_grid import codes_after, first_code, sizes_read, trained_codes

COMPARED = 16 * 3 * 224**2  # numbers in the images of an export that its folds are compared on, 8 images at least
FOLDS = ("naive", "integer", "strided")


@dataclass(frozen=True, kw_only=True)
class FoldCost:
    """The folded model (float64) against the trained one, both running freely from the same images.

    codes_differing: share of the codes of all learned activation quantizers. accuracy: None without targets.
    bias_correction: whether biases were corrected.
    """

    fold: str
    codes_differing: float
    sqnr_db: float
    top1_agreement: float | None
    accuracy: float | None
    trained_accuracy: float | None
    bias_correction: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values; an infinite SQNR is None."""
        plain: dict[str, Any] = finite(asdict(self))
        return plain


def compare_folds(
    model: nn.Module,
    example_input: Any,
    calibration: Iterable[object],
    batches: Iterable[object],
    *,
    bias_correction: bool = False,
    progress: Callable[[str], None] = lambda fold: None,
) -> list[FoldCost]:
    """Fold a trained model in every way, and compare each with it.

    calibration, batches: as for `export` and `verify`; both are kept in memory, since every fold reads them.
    bias_correction: every fold also with biases corrected on all calibration images. progress(fold): after each fold of
    each batch. Errors (QuantizationError): as those two, and no batches.
    """
    captured = capture(model, example_input)
    given = inputs(calibration, torch.device("cpu"), takes=takes_as(example_of(model, example_input)))
    images = [each_float(x, lambda tensor: tensor.float()) for x in given]
    images = [one for x in images for one in parts_of(x, 1)] if captured.fixed else images
    test = list(checked_batches(batches, captured.model.graph))
    if not test:
        raise QuantizationError("there is nothing to compare on: the batches are empty")
    place = prepare_fold(captured, images)
    corrections = [(), images] if bias_correction else [()]
    return fold_costs([place(how, on) for how in FOLDS for on in corrections], test, progress)


def fold_costs(
    folds: Sequence[Folded],
    test: Iterable[tuple[Any, np.ndarray | None]],
    progress: Callable[[str], None] = lambda fold: None,
) -> list[FoldCost]:
    """Of several folds of one trained model. test: (inputs [N, …], classes [N] or None)."""
    trained = _Trained(folds[0].trained.graph)
    costs = [_Cost(folded) for folded in folds]
    with workers() as together:
        for x, classes in test:
            outputs, codes = trained.outputs_and_codes(x)
            together(partial(cost.add, x, outputs, codes, classes) for cost in costs)
            for cost in costs:
                progress(cost.folded.how)
    return [cost.result() for cost in costs]


def costs_of_folds(names: Sequence[str], images: Any, place: Callable[[str], Folded]) -> list[dict[str, Any]]:
    """For the manifest: each fold against the trained model on the first of these images, or why it is refused."""
    folds, refused = {}, {}
    for name in names:
        try:
            folds[name] = place(name)
        except QuantizationError as error:
            refused[name] = str(error)
    images = images[: max(8, COMPARED // max(1, numbers_of(images)))]
    if folds:
        portions = portions_of(images, next(iter(folds.values())).trained.graph)
        measured = fold_costs(list(folds.values()), [(x, None) for x in portions])
    costs = dict(zip(folds, measured if folds else [], strict=True))
    size = max((bytes_of_constants(folded.model.graph) for folded in folds.values()), default=0)
    del folds
    drop(size)  # graphs refer to themselves: only so the other folds and their constants are gone
    return [
        {"fold": name, "refused": refused[name]} if name in refused else _entry(costs[name], len(images))
        for name in names
    ]


def _entry(cost: FoldCost, images: int) -> dict[str, Any]:
    plain = cost.to_dict()
    shown = {key: plain[key] for key in ("codes_differing", "sqnr_db", "top1_agreement")}
    return {"fold": cost.fold, "images": images, **shown}


@dataclass(frozen=True)
class _TrainedCodes:
    """Codes of one use of a quantizer of the trained model, counted from 0. offset: the value of that 0."""

    quantizer: str
    offset: float
    codes: np.ndarray


class _Trained:
    """The trained graph and the grids of its quantizers."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._grids: dict[str, tuple[str, Grid]] = {
            str(node.outputs[0].name): (attribute(node, "quantizer"), grid_of(node).unsigned())
            for node in graph
            if is_marker(node)
        }

    def outputs_and_codes(self, x: Input) -> tuple[list[np.ndarray], list[_TrainedCodes]]:
        """Outputs, and the codes of every use of an activation quantizer, in the order of the graph."""
        codes: list[_TrainedCodes] = []

        def note(made: Made) -> None:
            quantizer, grid = self._grids[made.name]
            codes.append(_TrainedCodes(quantizer, grid.offset, grid.codes(made.value).numpy()))

        outputs = lockstep.run(self._graph, x, dict.fromkeys(self._grids, note))
        return [v.numpy() for v in outputs], codes


@dataclass
class _Cost:
    """One fold while the batches go by."""

    folded: Folded
    agreement: Agreement = field(default_factory=Agreement)
    differing: int = 0
    compared: int = 0

    def add(
        self,
        x: Input,
        expected: Sequence[np.ndarray],
        trained: Sequence[_TrainedCodes],
        classes: np.ndarray | None,
    ) -> None:
        """One batch. expected, trained: outputs and codes of the trained model."""
        graph = self.folded.model.graph
        learned = {d.name: d for d in self.folded.tensors if d.kind == "activation"}
        passed = movers_passed(graph)
        sizes = set().union(*map(sizes_read, passed.values()))
        outputs, codes = lockstep.keep(graph, x, {*(d.codes for d in learned.values()), *sizes})
        self.agreement.add([v.numpy() for v in outputs], expected, classes, len(x))
        for use in trained:
            decision = learned[use.quantizer]
            container = codes_after(passed[decision.name], codes[decision.codes].numpy(), decision, codes)
            ours, first = trained_codes(decision, container, use.offset), first_code(decision, use.offset)
            reachable = use.codes.clip(first, first + decision.levels - 1)
            known = ~np.isnan(ours)
            self.differing += int((ours != reachable)[known].sum())
            self.compared += int(known.sum())

    def result(self) -> FoldCost:
        """What was counted so far."""
        return FoldCost(
            fold=self.folded.how,
            codes_differing=self.differing / max(1, self.compared),
            sqnr_db=self.agreement.sqnr_db,
            top1_agreement=self.agreement.top1,
            accuracy=self.agreement.accuracy,
            trained_accuracy=self.agreement.expected_accuracy,
            bias_correction=bool(self.folded.corrections),
        )
