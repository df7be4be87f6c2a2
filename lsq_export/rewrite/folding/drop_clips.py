"""drop_clips: an end of the container stands in for a Clip of codes, where the values do not reach beyond the other
one.

    Clip(QuantizeLinear(x; S, Z), n, p)
        =>  QuantizeLinear(x; S, Z + 255 - p)       where x never gets a code below n: 255 is the clip at p
        =>  QuantizeLinear(x; S, Z - n)             where x never gets a code above p: 0 is the clip at n

All codes move alike, and the zero point with them. A SiLU, which ends at -0.28, on a grid that holds all of that, needs
no clip; nor does what a gate or a mean makes of it, nor a sum after a ReLU. Values of a convolution reach everywhere:
their codes stay clipped. After `ties`, for the final scales decide. Only for 8-bit containers: elsewhere a Clip says
how narrow the codes are.
"""

from __future__ import annotations

from dataclasses import replace as with_changes

import numpy as np
import onnx_ir as ir

from calib.folding.containers import CONTAINER_MAX
from lsq_export.graph.edit import clean, constant, replace
from lsq_export.graph.grids import grid_of_codes
from lsq_export.graph.read import constant_of, input_of, is_op, single_consumer
from lsq_export.rewrite.contract.conditions import NO_MARKERS
from lsq_export.rewrite.contract.decisions import TensorDecision
from lsq_export.rewrite.contract.passes import Keeps, Pass, State

from .reach import reach
from .ties import dequantized


def drop_clips(model: ir.Model, decisions: list[TensorDecision]) -> list[TensorDecision]:
    """Returns the decisions, with the codes and zero points that moved."""
    graph = model.graph
    moved: dict[str, tuple[str, int]] = {}
    for clip in [node for node in graph if is_op(node, "Clip")]:
        codes = clip.inputs[0]
        quantize = codes.producer() if codes is not None and single_consumer(codes) else None
        if quantize is None or not is_op(quantize, "QuantizeLinear") or not _one_zero_point(quantize, clip):
            continue
        by = _move(quantize, clip)
        if by is not None:
            moved[str(clip.outputs[0].name)] = str(quantize.outputs[0].name), by
            _drop(graph, quantize, clip, by)
    clean(model)
    return [_moved(d, *moved[d.codes]) if d.codes in moved else d for d in decisions]


def _one_zero_point(quantize: ir.Node, clip: ir.Node) -> bool:
    """All that reads the codes has the zero point that made them."""
    return all(node.inputs[2] is quantize.inputs[2] for node, _ in dequantized(clip.outputs[0]))


def _move(quantize: ir.Node, clip: ir.Node) -> int | None:
    """By how much all codes have to move, or None where both bounds are within reach."""
    scale, zero_point = grid_of_codes(quantize)
    lowest, highest = (np.rint(end / scale) + zero_point for end in reach(quantize.inputs[0]))
    low, high = (int(constant_of(bound, str(clip.name))) for bound in clip.inputs[1:3])
    if highest <= high and zero_point >= low:
        return -low
    if lowest >= low and zero_point <= high:
        return CONTAINER_MAX - high
    return None


def _drop(graph: ir.Graph, quantize: ir.Node, clip: ir.Node, by: int) -> None:
    old = input_of(quantize, 2)
    replace(clip.outputs[0], quantize.outputs[0])
    replace(old, constant(graph, str(old.name), np.uint8(grid_of_codes(quantize)[1] + by)))
    graph.remove(clip, safe=True)


def _moved(decision: TensorDecision, codes: str, by: int) -> TensorDecision:
    return with_changes(decision, codes=codes, origin=decision.origin + by, zero_point=decision.zero_point + by)


def _run(model: ir.Model, state: State) -> None:
    state.tensors = drop_clips(model, state.tensors)


PASS = Pass("drop_clips", _run, Keeps.CODES, requires=(NO_MARKERS,))
