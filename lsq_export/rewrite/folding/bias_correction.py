"""bias correction: what the fold rounds has a mean in each channel that the trained network did not have; the bias
takes it back.

    Conv(x, w, b)  =>  Conv(x, w, b - m)        m [C]: mean over images of this layer's outputs less the trained ones (calib/folding/bias_correction.py)

Not exact: it changes values, and only on request. It comes before biases get their integers, so that these, and the
scales that keep accumulators clear of ties, are made for the corrected bias. One pass for all layers: every layer hands
on what the trained one gives, so that m is what was rounded since the layers in front, and no error is corrected twice.

Behind a layer lies y, or, where its bias took a learned offset over (E3), t with  t/S + Z = (y - β)/s  (rewrite/folding/offsets.py, integer_offsets.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import onnx_ir as ir
import torch

from calib.folding.bias_correction import ChannelErrors
from lsq_export.graph.build import attribute, constant_of, is_marker, is_op
from lsq_export.graph.evaluate import evaluate, portions_of
from lsq_export.rewrite.folding.decisions import BiasCorrection, Remainder, TensorDecision
from lsq_export.rewrite.normalizing.normalize import LINEAR

from .clamps import grid_of
from .equalize import offsets_of
from .integers import output_grid_of
from .weights import bias_of, layer_of, set_bias


@dataclass(frozen=True)
class LearnedGrid:
    """One marker before the fold. layer: the Conv or Gemm right in front of it, or None. scale, offset: s, β of code 0
    (float64 [1] or [C]). uses: as many decisions are made of it (merged convolutions: one for each)."""

    layer: str | None
    scale: float
    offset: np.ndarray
    uses: int


def learned_grids(model: ir.Model) -> list[LearnedGrid]:
    """Of every marker, in order: call it before the offsets are placed."""
    return [_learned_grid(node) for node in model.graph if is_marker(node)]


def _learned_grid(marker: ir.Node) -> LearnedGrid:
    producer = marker.inputs[0].producer() if marker.inputs[0] is not None else None
    layer = layer_of(producer) if producer is not None and is_op(producer, *LINEAR) else None
    if attribute(marker, "axis") != 1:
        grid = grid_of(marker).unsigned()
        return LearnedGrid(layer, grid.scale, np.array([grid.offset]), 1)
    scale = float(constant_of(marker.inputs[1], attribute(marker, "quantizer")))
    return LearnedGrid(
        layer,
        scale,
        offsets_of(marker) + attribute(marker, "qmin") * scale,
        len(marker.metadata_props["parts"].split(" ")),
    )


def correct_biases(
    model: ir.Model,
    trained: ir.Model,
    grids: Sequence[LearnedGrid],
    tensors: Sequence[TensorDecision],
    images: Iterable[torch.Tensor],
) -> tuple[BiasCorrection, ...]:
    """Returns what moved, layer by layer.

    model: with offsets placed, biases still real. trained: the same layers before edges were placed. images: [N, …]
    each, evaluated in portions."""
    layers = {layer_of(node): node for node in model.graph if is_op(node, *LINEAR)}
    relations = dict(_relations(layers, grids, tensors))
    reference = {str(node.outputs[0].name): layer_of(node) for node in trained.graph if is_op(node, *LINEAR)}
    own = {str(node.outputs[0].name): name for name, node in layers.items()}
    errors: dict[str, ChannelErrors] = {}
    for x in (portion for batch in images for portion in portions_of(batch)):
        wanted: dict[str, torch.Tensor] = {}

        def keep(name: str, value: torch.Tensor, wanted: dict[str, torch.Tensor] = wanted) -> None:
            if name in reference:
                factor, constant = relations.get(reference[name], (1.0, np.zeros(1)))
                wanted[reference[name]] = value * factor + torch.from_numpy(constant).reshape(
                    [1, -1] + [1] * (value.dim() - 2)
                )

        def compare(name: str, value: torch.Tensor, wanted: dict[str, torch.Tensor] = wanted) -> torch.Tensor | None:
            if name not in own:
                return None
            expected = wanted.pop(own[name])
            errors.setdefault(own[name], ChannelErrors(value.shape[1])).update(value, expected)
            return expected

        evaluate(trained.graph, x, on_value=keep)
        evaluate(model.graph, x, on_value=compare)
    return tuple(_correct(model.graph, layers[name], found) for name, found in errors.items())


def _relations(
    layers: dict[str, ir.Node], grids: Sequence[LearnedGrid], tensors: Sequence[TensorDecision]
) -> Iterator[tuple[str, tuple[float, np.ndarray]]]:
    """(layer, (factor, constant [1] or [C])) with t = factor·y + constant, where that is not y itself."""
    remaining = iter(tensors)
    for grid in grids:
        *_, decision = islice(remaining, grid.uses)
        if grid.layer is None or decision.kind == "edge" or decision.remainder in (Remainder.MOVED, Remainder.DROPPED):
            continue
        placed = output_grid_of(layers[grid.layer])
        assert placed is not None
        factor = placed.scale / grid.scale
        yield grid.layer, (factor, -grid.offset * factor - placed.scale * placed.zero_point)


def _correct(graph: ir.Graph, node: ir.Node, errors: ChannelErrors) -> BiasCorrection:
    correction, grid = errors.correction, output_grid_of(node)
    if correction.any():
        set_bias(node, graph, bias_of(node) + correction)
    largest = float(np.abs(correction).max(initial=0.0)) / grid.scale if grid else 0.0
    before, after = errors.squared_error
    return BiasCorrection(
        name=layer_of(node),
        images=errors.images,
        channels=len(correction),
        moved=int((correction != 0).sum()),
        largest_steps=largest,
        error_before=before,
        error_after=after,
    )
