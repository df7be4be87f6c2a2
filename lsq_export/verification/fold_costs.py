"""What each fold costs on the same trained model and data: naive rounding, the integer fold, the strided fold.

for cost in compare_folds(model, example, calibration, test): print(cost.fold, cost.codes_differing, cost.sqnr_db, cost.accuracy)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from calib.errors import QuantizationError
from calib.initialization.first_grids import inputs
from calib.workers import workers
from lsq_export.graph.capture import capture
from lsq_export.graph.evaluate import evaluate, portions_of
from lsq_export.graph.grids import grid_of, movers_passed
from lsq_export.graph.read import attribute, is_marker
from lsq_export.rewrite.fold import Folded, prepare_fold

from .parity import finite
from .trained_layers import behind, first_code, trained_codes
from .verify_tools import Agreement, pairs

COMPARED = 16 * 3 * 224**2  # numbers in the images of an export that its folds are compared on, 8 images at least
FOLDS = ("naive", "integer", "strided")
TrainedCodes: TypeAlias = tuple[str, float, np.ndarray]  # quantizer, offset of code 0, codes counted from 0


@dataclass(frozen=True)
class FoldCost:
    """The folded model (float64) against the trained one, both running freely from the same images.

    codes_differing: fraction of the codes of all learned activation quantizers. accuracy: None without targets.
    """

    fold: str
    codes_differing: float
    sqnr_db: float
    top1_agreement: float
    accuracy: float | None
    trained_accuracy: float | None
    bias_correction: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values; an infinite SQNR is None."""
        found: dict[str, Any] = finite(asdict(self))
        return found


def compare_folds(
    model: nn.Module,
    example_input: torch.Tensor,
    calibration: Iterable[object],
    batches: Iterable[object],
    *,
    bias_correction: bool = False,
    progress: Callable[[str], None] = lambda fold: None,
) -> list[FoldCost]:
    """calibration, batches: as for `export` and `verify`; both are kept in memory, since every fold reads them.
    bias_correction: every fold also with biases corrected on all calibration images. progress(fold): after each fold of
    each batch."""
    captured = capture(model, example_input)
    images = [x.float() for x in inputs(calibration, torch.device("cpu"))]
    test = list(pairs(batches, captured.model.graph))
    if not test:
        raise QuantizationError("there is nothing to compare on: the batches are empty")
    place = prepare_fold(captured, images)
    return fold_costs(
        [place(how, on) for how in FOLDS for on in ([(), images] if bias_correction else [()])], test, progress
    )


def fold_costs(
    folds: Sequence[Folded],
    test: Iterable[tuple[torch.Tensor, np.ndarray | None]],
    progress: Callable[[str], None] = lambda fold: None,
) -> list[FoldCost]:
    """Of several folds of one trained model. test: (inputs [N, …], classes [N] or None)."""
    costs = [_Cost(folded) for folded in folds]
    with workers() as together:
        for x, classes in test:
            expected, trained = _codes_of_trained(folds[0].trained.graph, x)
            together(partial(cost.add, x, expected, trained, classes) for cost in costs)
            for cost in costs:
                progress(cost.folded.how)
    return [cost.result() for cost in costs]


def costs_of_folds(names: Sequence[str], images: torch.Tensor, place: Callable[[str], Folded]) -> list[dict[str, Any]]:
    """For the manifest: each fold against the trained model on the first of these images, or why it is refused."""
    folds, refused = {}, {}
    for name in names:
        try:
            folds[name] = place(name)
        except QuantizationError as error:
            refused[name] = str(error)
    images = images[: max(8, COMPARED // images[0].numel())]
    costs = dict(zip(folds, fold_costs(list(folds.values()), [(x, None) for x in portions_of(images)]), strict=True))
    return [
        {"fold": name, "refused": refused[name]} if name in refused else _entry(costs[name], len(images))
        for name in names
    ]


def _entry(cost: FoldCost, images: int) -> dict[str, Any]:
    return {
        "fold": cost.fold,
        "images": images,
        **{key: cost.to_dict()[key] for key in ("codes_differing", "sqnr_db", "top1_agreement")},
    }


@dataclass
class _Cost:
    """One fold while the batches go by."""

    folded: Folded
    agreement: Agreement = field(default_factory=Agreement)
    differing: int = 0
    compared: int = 0

    def add(
        self, x: torch.Tensor, expected: list[np.ndarray], trained: Sequence[TrainedCodes], classes: np.ndarray | None
    ) -> None:
        learned = {d.name: d for d in self.folded.tensors if d.kind == "activation"}
        found, codes = _values_of(self.folded.model.graph, x, {d.codes for d in self.folded.tensors})
        self.agreement.add(found, expected, classes)
        for name, grid_offset, wanted in trained:
            decision = learned[name]
            raw = behind(codes[decision.codes], movers_passed(self.folded.model.graph, name), decision)
            mine, first = trained_codes(decision, raw, grid_offset), first_code(decision, grid_offset)
            known = ~np.isnan(mine)
            self.differing += int((mine != wanted.clip(first, first + decision.levels - 1))[known].sum())
            self.compared += int(known.sum())

    def result(self) -> FoldCost:
        seen = self.agreement
        return FoldCost(
            self.folded.how,
            self.differing / max(1, self.compared),
            seen.sqnr_db,
            seen.top1,
            seen.accuracy,
            seen.expected_accuracy,
            bool(self.folded.corrections),
        )


def _codes_of_trained(graph: ir.Graph, x: torch.Tensor) -> tuple[list[np.ndarray], list[TrainedCodes]]:
    """Outputs, and the codes of every use of an activation quantizer, in order."""
    grids = {str(n.outputs[0].name): (attribute(n, "quantizer"), grid_of(n).unsigned()) for n in graph if is_marker(n)}
    found: list[TrainedCodes] = []

    def see(name: str, value: torch.Tensor) -> None:
        if name in grids:
            quantizer, grid = grids[name]
            found.append((quantizer, grid.offset, grid.codes(value).numpy()))

    outputs = evaluate(graph, x, on_value=see)
    return [v.numpy() for v in outputs], found


def _values_of(graph: ir.Graph, x: torch.Tensor, names: set[str]) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    kept: dict[str, np.ndarray] = {}

    def see(name: str, value: torch.Tensor) -> None:
        if name in names:
            kept[name] = value.numpy()

    outputs = evaluate(graph, x, on_value=see)
    return [v.numpy() for v in outputs], kept
