"""bias_correction: what the fold rounds has a mean in each channel that the trained network did not have; the bias
takes it back.

    Conv(x, w, b)  =>  Conv(x, w, b - m)        m [C]: mean over images of this layer's outputs less the trained ones

Not exact: it changes values, and only on request. It comes before biases get their integers, so that these, and the
scales that keep accumulators clear of ties, are made for the corrected bias. One pass for all layers: every layer hands
on what the trained one gives, so that m is what was rounded since the layers before, and no error is corrected twice
(calib/folding/bias_correction.py).

After a layer lies y, or, where its bias took a learned offset over (E3), t with  t/S + Z = (y - β)/s  (offsets.py,
integer_offsets.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from calib.errors import QuantizationError
from calib.folding.bias_correction import ChannelErrors
from lsq_export.graph.evaluate import portions_of
from lsq_export.graph.grids import grid_of, is_merged, offsets_of, quantizer_of, scale_of
from lsq_export.graph.layers import bias_of, layer_of, output_grid_of, set_bias
from lsq_export.graph.lockstep import Made, Meet, run
from lsq_export.graph.notes import PARTS
from lsq_export.graph.operators import LAYERS
from lsq_export.graph.read import attribute, is_marker, is_op, producer_of
from lsq_export.rewrite.contract.conditions import NO_MARKERS
from lsq_export.rewrite.contract.decisions import BiasCorrection, Remainder, TensorDecision
from lsq_export.rewrite.contract.passes import Keeps, Pass, State

Relation = tuple[float, np.ndarray]  # factor, constant [1] or [C]: t = factor·y + constant


def correct_biases(
    model: ir.Model, trained: ir.Model, tensors: Sequence[TensorDecision], images: Iterable[Any]
) -> tuple[BiasCorrection, ...]:
    """Returns what moved, layer by layer.

    model: with offsets placed, biases still real. trained: the same layers before edges were placed. images: [N, …]
    each, evaluated in portions.
    """
    layers = {layer_of(node): node for node in model.graph if is_op(node, *LAYERS)}
    relations = dict(_relations(trained.graph, layers, tensors))
    errors: dict[str, ChannelErrors] = {}
    for x in (portion for batch in images for portion in portions_of(batch, model.graph)):
        expected: dict[str, torch.Tensor] = {}

        def keep(name: str, y: torch.Tensor, expected: dict[str, torch.Tensor] = expected) -> None:
            expected[name] = _as_placed(y, relations.get(name))

        def compare(name: str, t: torch.Tensor, expected: dict[str, torch.Tensor] = expected) -> torch.Tensor:
            wanted = expected.pop(name)
            errors.setdefault(name, ChannelErrors(t.shape[1])).update(t, wanted)
            return wanted

        run(trained.graph, x, _at_layers(trained.graph, keep))
        run(model.graph, x, _at_layers(model.graph, compare))
    return tuple(_correct(model.graph, layers[name], of_layer) for name, of_layer in errors.items())


def _at_layers(graph: ir.Graph, function: Callable[[str, torch.Tensor], torch.Tensor | None]) -> dict[str, Meet]:
    """To meet the output of every layer with function(layer, output)."""

    def meet(made: Made) -> torch.Tensor | None:
        return function(layer_of(made.node), made.value)

    return {str(node.outputs[0].name): meet for node in graph if is_op(node, *LAYERS)}


def _as_placed(y: torch.Tensor, relation: Relation | None) -> torch.Tensor:
    """What lies after the layer in the folded graph, of what lies there in the trained one."""
    if relation is None:
        return y
    factor, constant = relation
    return y * factor + torch.from_numpy(constant).reshape([1, -1] + [1] * (y.dim() - 2))


def _relations(
    trained: ir.Graph, layers: dict[str, ir.Node], tensors: Sequence[TensorDecision]
) -> Iterator[tuple[str, Relation]]:
    """(layer, relation) where t is not y itself: where a learned grid right after the layer gave it its offset."""
    decisions = {decision.name: decision for decision in tensors}
    for marker in (node for node in trained if is_marker(node)):
        producer = producer_of(marker.inputs[0])
        if producer is None or not is_op(producer, *LAYERS):
            continue
        names = [part.quantizer for part in PARTS.get(marker, ())] or [quantizer_of(marker)]
        if decisions[names[-1]].remainder in (Remainder.MOVED, Remainder.DROPPED):
            continue
        placed = output_grid_of(layers[layer_of(producer)])
        if placed is None:
            raise QuantizationError(f"{names[-1]}: no grid was placed after {layer_of(producer)}")
        factor = placed.scale / scale_of(marker)
        yield layer_of(producer), (factor, -_offsets(marker) * factor - placed.scale * placed.zero_point)


def _offsets(marker: ir.Node) -> np.ndarray:
    """β of code 0, float64 [1] or [C]."""
    if is_merged(marker):
        return np.asarray(offsets_of(marker) + attribute(marker, "qmin") * scale_of(marker))
    return np.array([grid_of(marker).unsigned().offset])


def _correct(graph: ir.Graph, node: ir.Node, errors: ChannelErrors) -> BiasCorrection:
    correction, grid = errors.correction, output_grid_of(node)
    if correction.any():
        set_bias(node, graph, bias_of(node) + correction)
    before, after = errors.squared_error
    return BiasCorrection(
        name=layer_of(node),
        images=errors.images,
        channels=len(correction),
        moved=int((correction != 0).sum()),
        largest_steps=float(np.abs(correction).max(initial=0.0)) / grid.scale if grid else 0.0,
        error_before=before,
        error_after=after,
    )


def _run(model: ir.Model, state: State) -> None:
    assert state.before_edges is not None
    state.corrections = correct_biases(model, state.before_edges, state.tensors, state.correct_on)


PASS = Pass(
    "correct_biases",
    _run,
    Keeps.NOTHING,
    because="biases take back the mean errors of their channels, where the user asks for that",
    requires=(NO_MARKERS,),
    applies=lambda state: len(state.correct_on) > 0,
)
