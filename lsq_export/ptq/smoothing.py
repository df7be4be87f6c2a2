"""Channels that a layer norm or a GELU makes far larger than others become smaller, and weights that read them larger:

    MatMul(LayerNorm(x; γ, β), W)   =>   MatMul(LayerNorm(x; γ / f, β / f), f W)          where layers alone read it
                                    =>   MatMul(Mul(LayerNorm(x; γ, β), 1 / f), f W)      else
    MatMul(Gelu(x), W)              =>   MatMul(Mul(Gelu(x), 1 / f), f W)

In float nothing changes, and one grid of 8 bits is enough for all channels. f of channel j is
max|x_j|^A / max|W_j|^(1-A) over the data and the outputs of the layers, and one on the average (SmoothQuant,
arXiv:2211.10438, equation 4). A is the one of STRENGTHS with the least error of the layers' outputs, on rows of data
(calib/initialization/row_errors.py). Where that gains less than WORTH, f is one: all channels would then be as large as
they can be on the grid, and other data than these are cut off.

The grids of such inputs are then chosen by the same error (`choose_grids`).
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from calib.initialization.row_errors import RowErrors, widen_grid
from calib.quantized import Quantized
from calib.samples import arrays_of, named
from calib.statistics.kept_rows import KeptRows
from lsq_export.graph.edit import constant, insert_after
from lsq_export.graph.notes import FLOAT
from lsq_export.graph.read import (
    array_of,
    attribute,
    data_readers,
    input_of,
    is_marker,
    is_op,
    maker_of,
    producer_of,
    rank_of,
)
from lsq_export.verification.runtime import Session, inputs_of

STRENGTHS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)  # A: with 1 all of the difference would go to the weights
SHRINK = (1.0, 0.7, 0.5)  # of the range: grids that inputs are tried on
WORTH = 2.0  # times less mean square error, that is 3 dB
SMALLEST = 1e-5  # of what is divided by
SMALLER = "it makes outliers of the channels before it smaller"


@dataclass(frozen=True)
class Smoothed:
    """marker: of what a norm makes, in front of layers. weights: the markers of these layers, of [C_out, C_in] each.

    seen: what the norm makes of the data, [C_in], as the float network has it.
    """

    marker: ir.Node
    weights: tuple[ir.Node, ...]
    seen: KeptRows = field(default_factory=KeptRows)

    @property
    def read(self) -> ir.Value:
        """What the norm makes, [N, …, C_in]."""
        return input_of(self.marker)


@dataclass(frozen=True)
class Grids:
    """What layers after norms read, once it is smoothed. rows [R, C_in], low, high [C_in]: of the data."""

    marker: ir.Node
    errors: RowErrors
    low: float
    high: float


class Smoothing:
    """Smooths the layers after norms by what they read of the data; then their grids can be chosen by it, too.

    model: with markers. plain: the same network as it was.
    """

    def __init__(self, model: ir.Model, plain: onnx.ModelProto) -> None:
        self._graph, self._plain = model.graph, plain
        self._grids: list[Grids] = []

    def smoothed(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Smooth the network; yields the batches again. batches: of inputs; needed ones wait on the disk."""
        found = _uneven_inputs(self._graph)
        if not found:
            yield from batches
            return
        names = sorted({str(one.read.name) for one in found})
        session = Session(self._plain, tensors=names, what="the float network")
        with tempfile.TemporaryFile() as kept:
            count = 0
            for x in batches:
                pickle.dump(x, kept, pickle.HIGHEST_PROTOCOL)
                made = session.run(named(arrays_of(x), inputs_of(self._plain)))
                for one in found:
                    one.seen.look(made[str(one.read.name)])
                count += 1
            self._grids = [_smooth(self._graph, one) for one in found if _is_finite(one.seen)]
            kept.seek(0)
            for _ in range(count):
                yield pickle.load(kept)

    def choose_grids(self, quantizer_of: Callable[[ir.Node], Quantized]) -> None:
        """Widen the grids of what was smoothed where the layers' outputs are better then. They have grids."""
        for one in self._grids:
            widen_grid(quantizer_of(one.marker), one.errors, one.low, one.high)


def _is_finite(seen: KeptRows) -> bool:
    """There were data, and no NaN or infinity, which the grids name."""
    return len(seen.low) > 0 and bool(np.isfinite(seen.low).all() and np.isfinite(seen.high).all())


def _uneven_inputs(graph: ir.Graph) -> list[Smoothed]:
    found = []
    for node in graph:
        if not is_marker(node) or attribute(node, "kind") == "weight" or not _is_uneven(producer_of(node.inputs[0])):
            continue
        weights = [_weight_of(reader) for reader in data_readers(node.outputs[0])]
        if weights and all(weight is not None for weight in weights):
            found.append(Smoothed(node, tuple(weight for weight in weights if weight is not None)))
    return found


def _is_uneven(node: ir.Node | None) -> bool:
    """An operator in float of which some channels are far larger than others, in transformers."""
    return _is_norm(node) or is_op(node, "Gelu") or (is_op(node, "Mul") and _has_erf(node))


def _has_erf(node: ir.Node | None, depth: int = 4) -> bool:
    """Whether an error function is a part, as in a written-out GELU: x · (1 + erf(x / √2)) / 2, in any order."""
    if node is None or not depth:
        return False
    parts = map(producer_of, node.inputs)
    return is_op(node, "Erf") or (is_op(node, "Mul", "Add") and any(_has_erf(part, depth - 1) for part in parts))


def _is_norm(node: ir.Node | None) -> bool:
    """Over the last axis, as one operator or written out: its end is a constant added to a product with a constant."""
    if node is None or is_op(node, "LayerNormalization"):
        return node is not None and attribute(node, "axis", -1) in (-1, (rank_of(node.inputs[0]) or 0) - 1)
    scaled = producer_of(node.inputs[0]) if is_op(node, "Add") and _is_row(node.inputs[1]) else None
    if scaled is None or not is_op(scaled, "Mul") or not _is_row(scaled.inputs[1]):
        return False
    return is_op(producer_of(scaled.inputs[0]), "Div")


def _is_row(value: ir.Value | None) -> bool:
    array = array_of(value)
    return array is not None and array.ndim == 1 and array.size > 1


def _weight_of(layer: ir.Node) -> ir.Node | None:
    """The marker of the weight of a MatMul or Gemm, which reads a constant [C_out, C_in]."""
    if not is_op(layer, "MatMul", "Gemm") or (layer.op_type == "Gemm" and attribute(layer, "transA", 0)):
        return None
    marker = producer_of(layer.inputs[1])
    marker = producer_of(marker.inputs[0]) if marker is not None and is_op(marker, "Transpose") else marker
    array = array_of(marker.inputs[0]) if marker is not None and is_marker(marker) else None
    return marker if array is not None and array.ndim == 2 else None


def _smooth(graph: ir.Graph, one: Smoothed) -> Grids:
    arrays = [_array(marker) for marker in one.weights]
    factor = _factors(one, RowErrors(one.seen.rows, np.concatenate(arrays)))
    if (factor != 1).any():
        _apply(graph, one, factor)
    rows, low, high = (values / factor for values in (one.seen.rows, one.seen.low, one.seen.high))
    errors = RowErrors(rows.astype(np.float32), np.concatenate([_array(marker) for marker in one.weights]))
    return Grids(one.marker, errors, float(low.min()), float(high.max()))


def _array(marker: ir.Node) -> np.ndarray:
    array = array_of(marker.inputs[0])
    assert array is not None
    return array.astype(np.float32, copy=False)


def _apply(graph: ir.Graph, one: Smoothed, factor: np.ndarray) -> None:
    for marker in one.weights:
        weight = input_of(marker)
        larger = constant(graph, f"{weight.name}.smoothed", (_array(marker) * factor).astype(np.float32))
        for node, index in list(weight.uses()):
            node.replace_input_with(index, larger)
    norm, inverse = producer_of(one.read), (1 / factor).astype(np.float32)
    alone = list(data_readers(one.read)) == [one.marker] and not one.read.is_graph_output()
    parts = [array_of(value) for value in norm.inputs[1:3]] if norm is not None and alone else []
    if norm is not None and is_op(norm, "LayerNormalization") and parts and all(part is not None for part in parts):
        for index, part in enumerate(parts, 1):
            assert part is not None
            norm.replace_input_with(
                index, constant(graph, f"{norm.name}.smoothed", (part * inverse).astype(np.float32))
            )
        return
    name = f"{attribute(one.marker, 'quantizer')}.smoothed"
    values = constant(graph, f"{name}.factor", inverse)
    smaller = insert_after(one.read, graph, "Mul", [one.read, values], name)
    smaller.type = one.read.type
    FLOAT.write(maker_of(smaller), SMALLER)
    one.marker.replace_input_with(0, smaller)


def _factors(one: Smoothed, errors: RowErrors) -> np.ndarray:
    """f, float64 [C_in], ones where that is best."""
    largest = np.maximum(np.abs(one.seen.low), np.abs(one.seen.high))
    best, plain = np.ones(len(largest)), _error(one, errors, np.ones(len(largest)))
    least = plain / WORTH
    for factor in factors(largest, np.abs(errors.weight).max(0)):
        error = _error(one, errors, factor)
        if error < least:
            best, least = factor, error
    return best


def factors(largest: np.ndarray, weight: np.ndarray) -> Iterator[np.ndarray]:
    """f for each of STRENGTHS, float64 [C_in]. largest: max|x_j|. weight: max|W_j|."""
    x, w = (np.maximum(values.astype(np.float64), SMALLEST) for values in (largest, weight))
    for strength in STRENGTHS:
        factor = x**strength / w ** (1 - strength)
        yield factor / np.exp(np.log(factor).mean())


def _error(one: Smoothed, errors: RowErrors, factor: np.ndarray) -> float:
    """Of the layers' outputs, from the inputs on the best of some grids, and from the weights on theirs."""
    f = factor.astype(np.float32)
    low, high = float((one.seen.low / f).min()), float((one.seen.high / f).max())
    codes = 2.0 ** attribute(one.marker, "bits") - 1
    inputs = min(errors.of_inputs(_rounded(errors.rows / f, low * s, high * s, codes) * f) for s in SHRINK)
    parts, start = [], 0
    for marker in one.weights:
        rows = errors.weight[start : (start := start + len(_array(marker)))] * f
        largest = np.abs(rows).max(1, keepdims=True) if attribute(marker, "axis", -1) == 0 else np.abs(rows).max()
        step = np.maximum(largest, SMALLEST) / (2 ** (attribute(marker, "bits") - 1) - 1)
        parts.append(np.rint(rows / step) * step / f)
    return inputs + errors.of_weight(np.concatenate(parts).astype(np.float32))


def _rounded(x: np.ndarray, low: float, high: float, codes: float) -> np.ndarray:
    step = np.float32(max((high - low) / codes, SMALLEST / codes))
    return np.asarray(np.clip(np.rint((x - np.float32(low)) / step), 0, codes) * step + np.float32(low))
