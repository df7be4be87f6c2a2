"""fold: the captured graph -> the folded graph, pass by pass.

Every pass says on top what it turns into what, and why that is exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from dataclasses import replace as with_changes
from typing import Protocol

import onnx_ir as ir
import torch

from calib.statistics.observers import Observer
from lsq_export.graph.build import copy
from lsq_export.graph.capture import Captured
from lsq_export.rewrite.folding.batch_norm import fold_batch_norms
from lsq_export.rewrite.folding.bias_correction import correct_biases, learned_grids
from lsq_export.rewrite.folding.clamps import absorb_clamps
from lsq_export.rewrite.folding.constants import place_constants
from lsq_export.rewrite.folding.depthwise import average_pools_to_convolutions
from lsq_export.rewrite.folding.drop_clips import drop_clips
from lsq_export.rewrite.folding.edges import place_edges
from lsq_export.rewrite.folding.equalize import absorb_scalings
from lsq_export.rewrite.folding.integers import place_integers
from lsq_export.rewrite.folding.merge_parallel import merge_mixed
from lsq_export.rewrite.folding.offsets import place_offsets
from lsq_export.rewrite.folding.ties import clear_ties
from lsq_export.rewrite.folding.watch import Watch, probe
from lsq_export.rewrite.folding.weights import freeze_weights
from lsq_export.rewrite.normalizing.normalize import normalize
from lsq_export.rewrite.normalizing.split_to_slices import split_to_slices

from .folding.decisions import BiasCorrection, LayerDecision, TensorDecision


@dataclass(frozen=True)
class Folded:
    """trained: the captured graph with frozen weight codes. model: the folded model as a QDQ graph in 8-bit containers,
    int32 biases.

    corrections: of biases, one for each layer; none if they were not asked for.
    """

    trained: ir.Model
    model: ir.Model
    tensors: tuple[TensorDecision, ...]
    layers: tuple[LayerDecision, ...]
    how: str
    input_shape: tuple[int, ...]
    corrections: tuple[BiasCorrection, ...] = ()


class Place(Protocol):
    """Folds what is prepared in one way.

    correct_on: batches of images [N, …], on which biases are corrected; none: they stay.
    """

    def __call__(self, how: str, correct_on: Sequence[torch.Tensor] = ()) -> Folded: ...


def fold(captured: Captured, batches: Iterable[torch.Tensor], how: str = "strided") -> Folded:
    """Fold a captured model; edges are calibrated on the batches of inputs, [N, …] each.

    how: "strided" (E5, 8-bit containers), "integer" (zero points among the 2^b codes, for INT4/INT2 hardware), "naive"
    (for comparison only)."""
    return prepare_fold(captured, batches, merge=how == "strided")(how)


def prepare_fold(captured: Captured, batches: Iterable[torch.Tensor], *, merge: bool = False) -> Place:
    """What all folds share, the calibrated edges above all; call the result with the name of a fold, as often as you
    like.

    merge: convolutions side by side become one, for "strided": an integer zero point has no room for their offsets.
    """
    model = copy(captured.model)
    split_to_slices(model)
    normalize(model)
    freeze_weights(model)
    trained = copy(model)
    x, batches = probe(batches)
    watch = Watch(x)
    watch.start(model, "smooth")
    average_pools_to_convolutions(model)
    if merge:
        merge_mixed(model)
    watch.unchanged(model, "average pools and of convolutions side by side")
    place_constants(model)
    watch.start(model, "smooth")
    fold_batch_norms(model)
    watch.unchanged(model, "batch norms")
    watch.start(model, "rounded")
    absorb_scalings(model)
    absorb_clamps(model)
    watch.unchanged(model, "clamps")
    without_edges = copy(model)
    statistics = place_edges(model, batches)

    def place(how: str, correct_on: Sequence[torch.Tensor] = ()) -> Folded:
        return _place(captured, trained, without_edges, copy(model), how, statistics, correct_on)

    return place


def _place(
    captured: Captured,
    trained: ir.Model,
    without_edges: ir.Model,
    model: ir.Model,
    how: str,
    statistics: dict[str, Observer],
    correct_on: Sequence[torch.Tensor],
) -> Folded:
    grids = learned_grids(model)
    tensors = clear_ties(model, place_offsets(model, how, statistics))
    if how == "strided":
        tensors = drop_clips(model, tensors)
    corrections = correct_biases(model, without_edges, grids, tensors, correct_on) if len(correct_on) else ()
    moves = {c.name: c.largest_steps for c in corrections}
    layers = [
        with_changes(d, bias_error_steps=d.bias_error_steps + moves.get(d.name, 0.0))
        for d in place_integers(model, gain=how == "strided")
    ]
    return Folded(trained, model, tuple(tensors), tuple(layers), how, captured.input_shape, corrections)
