"""Why codes differ, as far as it can be established.

tie      the real value lies next to a rounding tie, nearer than float32 arithmetic (against the folded model) or the rounded bias (E6) and a shift
         that keeps sums clear of ties (both against the trained model) can move it
border   a tap of the convolution reads the padding, for which its bias carries β - β' as well (E4, E5)
edge     between the learned grid and the learned grids in front of it lies one that training did not learn: of a residual sum, say
grid     the container's grid is not the trained one: an 8-bit grid that moved onto an integer zero point, an input stretched by the integer fold
unknown  none of these
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from calib.folding.containers import CONTAINER_MAX
from lsq_export.graph.layers import inside_taps, is_padded
from lsq_export.graph.operators import LAYERS
from lsq_export.graph.read import array_of, is_op
from lsq_export.rewrite.contract.decisions import LayerDecision, Remainder, TensorDecision

TIE, BORDER, EDGE, GRID, UNKNOWN = "tie", "border", "edge", "grid", "unknown"
EXPLAINED = {
    TIE: "the value lies next to a rounding tie, and a rounded bias or a scale moved clear of ties carries it over",
    BORDER: "padding is zero as β′, not β, has it",
    EDGE: "in front lies an 8-bit grid that training did not have",
    GRID: "the file's grid is not the trained one: it moved onto an integer zero point",
    UNKNOWN: "none of these could be shown",
}
MOVED = 0.01  # steps: a grid that moved by less, to an integer zero point or to keep clear of ties, is the trained one
FLOAT_STEPS = 1e-3  # steps: what float32 sums, and scales moved by some float32 neighbors (E9), miss by is less


def near_tie(steps: np.ndarray, within: float = FLOAT_STEPS) -> np.ndarray:
    """Whether values, in steps of the grid, are at most that far from k + 1/2."""
    return np.asarray(np.abs(steps - np.floor(steps) - 0.5) <= within)


def on_border(conv: ir.Node) -> np.ndarray:
    """Bool [H, W]: the outputs of a padded convolution of which a tap reads the padding."""
    rows, columns = (np.asarray(taps.all(axis=1)) for taps in inside_taps(conv))
    return ~(rows[:, None] & columns)


@dataclass(frozen=True)
class Cause:
    """What can make a learned grid's codes differ between the folded and the trained model on the same inputs.

    whole: the one reason for all of them, or None: then `border` (bool [H, W], or False) and ties within `tie` steps.
    Behind an operator that moved or merged pixels, a border is where no tie is."""

    whole: str | None = None
    border: np.ndarray | bool = False
    tie: float = FLOAT_STEPS

    def count(self, differs: np.ndarray, steps: np.ndarray) -> Mapping[str, int]:
        """{reason: elements}. differs: bool, steps: the trained model's values before rounding; both [N, C, …]."""
        if self.whole:
            return {self.whole: int(differs.sum())}
        tie = differs & near_tie(steps, self.tie)
        border = differs & (
            self.border
            if np.ndim(self.border) and np.shape(self.border) == differs.shape[2:]
            else np.any(self.border) & ~tie
        )
        tie &= ~border
        return {BORDER: int(border.sum()), TIE: int(tie.sum()), UNKNOWN: int((differs & ~border & ~tie).sum())}


def causes(folded: ir.Graph, tensors: Sequence[TensorDecision], layers: Sequence[LayerDecision]) -> dict[str, Cause]:
    """{tensor of codes: cause} of every learned activation grid."""
    made = {str(v.name): v for node in folded for v in node.outputs}
    decided = {d.codes: d for d in tensors}
    rounding = {d.name: d.bias_error_steps for d in layers}
    return {d.codes: _cause(d, made[d.codes], decided, rounding) for d in tensors if d.kind == "activation"}


def _cause(
    decision: TensorDecision, codes: ir.Value, decided: Mapping[str, TensorDecision], rounding: Mapping[str, float]
) -> Cause:
    if (
        decision.remainder == Remainder.MOVED
        and max(abs(decision.error_steps), abs(decision.container_scale / decision.scale - 1) * CONTAINER_MAX) > MOVED
    ):
        return Cause(GRID)
    layer: ir.Node | None = None
    moved = shift = 0.0
    for node in _upstream(codes):
        if is_op(node, *LAYERS):
            layer = layer or node
        if is_op(node, "Add") and layer is None:
            shift = shift or _moved_shift(node, decision)
        others = [
            found
            for v in node.inputs[1:]
            if is_op(node, "Add", "Mul", "Concat", "MatMul") and (found := _nearest(v, decided)) is not None
        ]
        if any(other.kind == "edge" for other in others):
            return Cause(EDGE)
        moved += sum(_moved_steps(other, decision, product=is_op(node, "Mul")) for other in others)
        source = decided.get(str(node.outputs[0].name))
        if source is None or source is decision:
            continue
        if source.kind == "edge":
            return Cause(EDGE)
        if _moved_share(source) > 1e-5 and source.remainder != Remainder.MOVED:
            return Cause(GRID)
        border = on_border(layer) if layer is not None and source.border and is_padded(layer) else False
        moved += shift + (decision.levels - 1) * _moved_share(decision)
        return Cause(
            None,
            border,
            FLOAT_STEPS
            + MOVED * (decision.remainder == Remainder.MOVED)
            + moved
            + rounding.get(str(layer.name) if layer else "", 0.0),
        )
    return Cause()


def _nearest(value: ir.Value | None, decided: Mapping[str, TensorDecision]) -> TensorDecision | None:
    """The first decided grid upstream; None behind a constant."""
    nodes = _upstream(value) if value is not None else iter(())
    return next((decided[name] for node in nodes for name in [str(node.outputs[0].name)] if name in decided), None)


def _moved_steps(other: TensorDecision, mine: TensorDecision, *, product: bool) -> float:
    """Steps of mine by which the largest value on another operand's grid moved with its scale:

    a factor changes the product by the same share.
    """
    return _moved_share(other) * (mine.levels - 1 if product else (other.levels - 1) * other.scale / mine.scale)


def _moved_share(decision: TensorDecision) -> float:
    """Of its scale, by which the container's grid is not the trained one."""
    return abs(decision.container_scale * decision.stride / decision.scale - 1)


def _moved_shift(add: ir.Node, decision: TensorDecision) -> float:
    """Steps by which the constant that stands for -β behind an edge was moved to keep sums clear of ties
    (rewrite/folding/ties.py).
    """
    shift = add.inputs[1].producer() if add.inputs[1] is not None else None
    codes, scale, zero_point = (
        (array_of(v) for v in shift.inputs) if is_op(shift, "DequantizeLinear") and shift is not None else (None,) * 3
    )
    if codes is None or scale is None or zero_point is None or codes.size != 1:
        return 0.0
    return (
        abs((float(codes.item()) - float(zero_point.item())) * float(scale.item()) + decision.offset) / decision.scale
    )


def _upstream(value: ir.Value) -> Iterator[ir.Node]:
    """The node that makes a value, the one that makes that one's first input, and so on."""
    node = value.producer()
    while node is not None:
        yield node
        node = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
