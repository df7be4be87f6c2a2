"""The fold: from the captured graph to the folded one, in passes. Each says on top of its file what it turns into what.

STRIDED     real offsets on 8-bit containers, codes spread over them (E5)
INTEGER     zero points among the 2^b codes, for INT4/INT2 hardware
SYMMETRIC   real offsets on signed 8-bit containers whose zero point is 0; grids of 8 bits become coarser
naive       the passes of INTEGER, with offsets rounded to zero points, as other exporters do: for comparison only
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import onnx_ir as ir

from calib.statistics.counting_observer import CountingObserver
from calib.statistics.observers import Observer
from lsq_export.graph.capture import Captured
from lsq_export.graph.edit import copy
from lsq_export.rewrite.contract.decisions import BiasCorrection, LayerDecision, TensorDecision
from lsq_export.rewrite.contract.passes import Pass, State
from lsq_export.rewrite.contract.run import Runner
from lsq_export.rewrite.contract.watch import probe
from lsq_export.rewrite.folding import (
    average_pools,
    batch_norm,
    bias_correction,
    center_grids,
    clamps,
    constant_grids,
    constants,
    drop_clips,
    edges,
    equalize,
    float_clamps,
    freeze_weights,
    functional_layers,
    integers,
    keep_float,
    merge_parallel,
    offsets,
    output_tails,
    ties,
)
from lsq_export.rewrite.normalizing import (
    affine,
    constant_weights,
    known_shapes,
    normalize,
    sequences,
    split_to_slices,
    transposed,
)

# What makes the trained graph of the captured one: the yardstick of every fold.
TRAINED: tuple[Pass, ...] = (
    known_shapes.PASS,
    constant_weights.PASS,
    affine.PASS,
    split_to_slices.PASS,
    transposed.PASS,
    sequences.PASS,
    normalize.PASS,
    freeze_weights.PASS,
)
# What the folds of one export share, the calibration of edges above all.
PREPARED: tuple[Pass, ...] = (
    functional_layers.PASS,
    average_pools.PASS,
    merge_parallel.PASS,
    constants.PASS,
    output_tails.PASS,
    constant_grids.PASS,
    batch_norm.PASS,
    equalize.PASS,
    float_clamps.PASS,
    clamps.PASS,
    edges.PASS,
)
# What places grids, weights and biases in their containers.
PLACED: tuple[Pass, ...] = (
    offsets.PASS,
    ties.PASS,
    drop_clips.PASS,
    bias_correction.PASS,
    integers.PASS,
    keep_float.PASS,
)

STRIDED = (*TRAINED, *PREPARED, *PLACED)
# An integer zero point has no room for the offsets of merged convolutions, and a Clip says how narrow the codes are.
INTEGER = tuple(step for step in STRIDED if step not in (merge_parallel.PASS, drop_clips.PASS))
_EDGES = INTEGER.index(edges.PASS) + 1
SYMMETRIC = (*INTEGER[:_EDGES], center_grids.PASS, *INTEGER[_EDGES:])
FOLDS: Mapping[str, tuple[Pass, ...]] = {
    "strided": STRIDED,
    "integer": INTEGER,
    "symmetric": SYMMETRIC,
    "naive": INTEGER,
}


@dataclass(frozen=True, kw_only=True)
class Folded:
    """trained: the captured graph with frozen weight codes. model: the folded model as a QDQ graph in 8-bit containers,
    with int32 biases. how: the fold.

    input_shape: without the batch; {name: shape} of several inputs. fixed: the batch is always one.
    corrections: of biases, one for each layer; none if they were not asked for.
    """

    trained: ir.Model
    model: ir.Model
    tensors: tuple[TensorDecision, ...]
    layers: tuple[LayerDecision, ...]
    how: str
    input_shape: Any
    corrections: tuple[BiasCorrection, ...] = ()
    fixed: bool = False


# place(how, correct_on=(), watched=True): fold what is prepared. correct_on: batches of images [N, …] that biases are
# corrected on. watched: each pass is held to what it keeps, as for all that is written.
Place = Callable[..., Folded]


def fold(captured: Captured, batches: Iterable[Any], how: str = "strided") -> Folded:
    """Fold a captured model; edges are calibrated on the batches of inputs, [N, …] each. how: a name of FOLDS."""
    return prepare_fold(captured, batches, merge=how == "strided")(how)


def prepare_fold(captured: Captured, batches: Iterable[Any], *, merge: bool = False) -> Place:
    """What all folds share; call the result with the name of a fold, as often as you like.

    merge: parallel convolutions become one, for "strided" alone.
    """
    image, batches = probe(batches)
    observer = CountingObserver if captured.one_by_one else Observer
    passes = FOLDS["strided" if merge else "integer"]
    model, state, runner = copy(captured.model), State(batches=batches, observer=observer), Runner(image)
    runner.run(passes[: len(TRAINED)], model, state)
    trained = copy(model)
    runner.run(passes[len(TRAINED) : _shared(passes)], model, state)

    def place(how: str, correct_on: Sequence[Any] = (), watched: bool = True) -> Folded:
        folded, own = copy(model), replace(state, fold=how, correct_on=correct_on)
        Runner(image if watched else None).run(FOLDS[how][_shared(FOLDS[how]) :], folded, own)
        return Folded(
            trained=trained,
            model=folded,
            tensors=tuple(own.tensors),
            layers=tuple(own.layers),
            how=how,
            input_shape=captured.input_shape,
            corrections=own.corrections,
            fixed=captured.fixed,
        )

    return place


def _shared(passes: tuple[Pass, ...]) -> int:
    """How many passes the folds of one export share: up to the calibration of edges."""
    return [step.name for step in passes].index(edges.PASS.name) + 1
