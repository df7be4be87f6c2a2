"""What can make the codes of a learned grid differ from the trained model's, read from the graph and the decisions of
the fold (`reasons.py` has the words).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import onnx_ir as ir

from calib.folding.containers import CONTAINER_MAX
from lsq_export.graph.layers import inside_taps, is_padded
from lsq_export.graph.operators import LAYERS
from lsq_export.graph.read import array_of, is_op
from lsq_export.rewrite.contract.decisions import LayerDecision, Remainder, TensorDecision

from .reasons import Reason

MOVED = 0.01  # steps: a grid that moved by less, to an integer zero point or to keep clear of ties, is the trained one
MOVED_SHARE = 1e-5  # of a scale: a grid whose scale moved by less is the trained one
FLOAT_STEPS = 1e-3  # steps: what float32 sums, and scales moved by some float32 neighbors (E9), miss by is less


def near_tie(steps: np.ndarray, within: float = FLOAT_STEPS) -> np.ndarray:
    """Whether values, in steps of the grid, are at most that far from k + 1/2."""
    return np.asarray(np.abs(steps - np.floor(steps) - 0.5) <= within)


def on_border(conv: ir.Node) -> np.ndarray:
    """Bool [H, W], or of another rank: the outputs of a padded convolution of which a tap reads the padding."""
    inside = [np.asarray(taps.all(axis=1)) for taps in inside_taps(conv)]
    return ~np.asarray(reduce(np.logical_and.outer, inside))


@dataclass(frozen=True, kw_only=True)
class Cause:
    """What can make a learned grid's codes differ between the folded and the trained model on the same inputs.

    whole: the one reason for all of them; None: `border` (bool [H, W], or a bool) and ties within `tie` steps. After an
    operator that moved or merged pixels, a border is where no tie is.
    """

    whole: Reason | None = None
    border: np.ndarray | bool = False
    tie: float = FLOAT_STEPS

    def count(self, differs: np.ndarray, steps: np.ndarray) -> Mapping[Reason, int]:
        """{reason: elements}. differs: bool, steps: the trained model's values before rounding; both [N, C, …]."""
        if self.whole:
            return {self.whole: int(differs.sum())}
        tie = differs & near_tie(steps, self.tie)
        has_pixels = np.ndim(self.border) > 0 and np.shape(self.border) == differs.shape[2:]
        border = differs & (self.border if has_pixels else np.any(self.border) & ~tie)
        tie &= ~border
        return {
            Reason.BORDER: int(border.sum()),
            Reason.TIE: int(tie.sum()),
            Reason.UNKNOWN: int((differs & ~border & ~tie).sum()),
        }


def causes(folded: ir.Graph, tensors: Sequence[TensorDecision], layers: Sequence[LayerDecision]) -> dict[str, Cause]:
    """{tensor of codes: cause} of every learned activation grid."""
    values = {str(v.name): v for node in folded for v in node.outputs}
    decided = {d.codes: d for d in tensors}
    rounding = {d.name: d.bias_error_steps + d.coarse_steps for d in layers}
    return {d.codes: _cause(d, values[d.codes], decided, rounding) for d in tensors if d.kind == "activation"}


def _cause(
    decision: TensorDecision, codes: ir.Value, decided: Mapping[str, TensorDecision], rounding: Mapping[str, float]
) -> Cause:
    """Visits the operators from the grid up to the learned grids before it."""
    if _is_another_grid(decision):
        return Cause(whole=Reason.GRID)
    layer: ir.Node | None = None
    carried = shift = 0.0  # steps by which values moved with the scales of other operands, and with a shift
    for node in _upstream(codes):
        if is_op(node, *LAYERS):
            layer = layer or node
        if is_op(node, "Add") and layer is None:
            shift = shift or _moved_shift(node, decision)
        others = _other_operands(node, decided)
        if any(other.kind == "edge" for other in others):
            return Cause(whole=Reason.EDGE)
        carried += sum(_moved_steps(other, decision, product=is_op(node, "Mul")) for other in others)
        source = decided.get(str(node.outputs[0].name))
        if source is None or source is decision:
            continue
        if source.kind == "edge":
            return Cause(whole=Reason.EDGE)
        if _moved_share(source) > MOVED_SHARE and source.remainder != Remainder.MOVED:
            return Cause(whole=Reason.GRID)
        carried += shift + (decision.levels - 1) * _moved_share(decision)
        return _partial_cause(decision, source, layer, carried, rounding)
    return Cause(tie=_tie(decision))  # on the input of the network


def _partial_cause(
    decision: TensorDecision,
    source: TensorDecision,
    layer: ir.Node | None,
    carried: float,
    rounding: Mapping[str, float],
) -> Cause:
    """Borders and ties between two learned grids. source: the one before. layer: the Conv or Gemm between them."""
    tie = _tie(decision) + carried
    if layer is None:
        return Cause(tie=tie)
    border = on_border(layer) if source.border and is_padded(layer) else False
    return Cause(border=border, tie=tie + rounding.get(str(layer.name), 0.0))


def _tie(decision: TensorDecision) -> float:
    """Steps from a tie within which codes of a grid may differ that moved by so little that it is the trained one."""
    return FLOAT_STEPS + MOVED * (decision.remainder == Remainder.MOVED)


def _is_another_grid(decision: TensorDecision) -> bool:
    """Whether the grid moved farther than `MOVED` at any of its codes."""
    stretched = abs(decision.container_scale / decision.scale - 1) * CONTAINER_MAX
    return decision.remainder == Remainder.MOVED and max(abs(decision.error_steps), stretched) > MOVED


def _other_operands(node: ir.Node, decided: Mapping[str, TensorDecision]) -> list[TensorDecision]:
    """The grids of the operands after the first of a sum, a product or a concatenation."""
    if not is_op(node, "Add", "Mul", "Concat", "MatMul"):
        return []
    nearest = (_nearest(value, decided) for value in node.inputs[1:])
    return [decision for decision in nearest if decision is not None]


def _nearest(value: ir.Value | None, decided: Mapping[str, TensorDecision]) -> TensorDecision | None:
    """The first decided grid upstream; None after a constant."""
    names = (str(node.outputs[0].name) for node in _upstream(value)) if value is not None else ()
    return next((decided[name] for name in names if name in decided), None)


def _moved_steps(other: TensorDecision, grid: TensorDecision, *, product: bool) -> float:
    """Steps of a grid by which the largest value on another operand's grid moved with its scale.

    A factor changes the product by the same share.
    """
    return _moved_share(other) * (grid.levels - 1 if product else (other.levels - 1) * other.scale / grid.scale)


def _moved_share(decision: TensorDecision) -> float:
    """The share of its scale by which the container's grid is not the trained one."""
    return abs(decision.container_scale * decision.stride / decision.scale - 1)


def _moved_shift(add: ir.Node, decision: TensorDecision) -> float:
    """Steps by which the constant that stands for -β after an edge was moved.

    It keeps sums clear of ties (rewrite/folding/ties.py).
    """
    shift = add.inputs[1].producer() if add.inputs[1] is not None else None
    if shift is None or not is_op(shift, "DequantizeLinear"):
        return 0.0
    codes, scale, zero_point = (array_of(v) for v in shift.inputs)
    if codes is None or scale is None or zero_point is None or codes.size != 1:
        return 0.0
    value = (float(codes.item()) - float(zero_point.item())) * float(scale.item())
    return abs(value + decision.offset) / decision.scale


def _upstream(value: ir.Value) -> Iterator[ir.Node]:
    """The node that makes a value, the one that makes that one's first input, and so on."""
    node = value.producer()
    while node is not None:
        yield node
        node = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
