"""Channels that a layer norm or a GELU makes far larger than others become smaller, and weights that read them larger:

    MatMul(LayerNorm(x; γ, β), W)   =>   MatMul(LayerNorm(x; γ / f, β / f), f W)          where layers alone read it
                                    =>   MatMul(Mul(LayerNorm(x; γ, β), 1 / f), f W)      else
    MatMul(Gelu(x), W)              =>   MatMul(Mul(Gelu(x), 1 / f), f W)

In float nothing changes, and one grid of 8 bits is enough for all channels. f of channel j is
max|x_j|^A / max|W_j|^(1-A) over the data and the outputs of the layers, and one on the average (SmoothQuant,
arXiv:2211.10438, equation 4). A is the one of STRENGTHS with the least error of both grids. Where that gains less than
WORTH, f is one: all channels would then be as large as they can be on the grid, and other data than these are cut off.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from calib.samples import arrays_of, named
from lsq_export.graph.edit import constant, insert_after
from lsq_export.graph.notes import FLOAT
from lsq_export.graph.read import (
    array_of,
    attribute,
    data_readers,
    is_marker,
    is_op,
    maker_of,
    producer_of,
    rank_of,
)
from lsq_export.verification.runtime import Session, inputs_of

STRENGTHS = (0.3, 0.5, 0.7, 0.85)  # A: with 1 all of the difference would go to the weights
WORTH = 2.0  # times less mean square error, that is 3 dB
SMALLEST = 1e-5  # of what is divided by
SMALLER = "it makes outliers of the channels before it smaller"
PEAK = 4.0  # the largest of many values, in standard deviations


@dataclass(frozen=True)
class Smoothed:
    """marker: of what a norm makes, in front of layers. weights: the constants of these layers, [C_out, C_in]."""

    marker: ir.Node
    weights: tuple[ir.Value, ...]

    @property
    def read(self) -> ir.Value:
        """What the norm makes, [N, …, C_in]."""
        value = self.marker.inputs[0]
        assert value is not None
        return value


def smooth(model: ir.Model, plain: onnx.ModelProto, batches: Iterable[Any]) -> Iterator[Any]:
    """Smooth the layers after norms by what they read of the batches; yields the batches again.

    model: with markers. plain: the same network as it was. batches: of inputs; needed ones wait on the disk.
    """
    found = _uneven_inputs(model.graph)
    if not found:
        yield from batches
        return
    names = sorted({str(one.read.name) for one in found})
    session, largest = Session(plain, tensors=names, what="the float network"), dict[str, np.ndarray]()
    with tempfile.TemporaryFile() as kept:
        count = 0
        for x in batches:
            pickle.dump(x, kept, pickle.HIGHEST_PROTOCOL)
            made = session.run(named(arrays_of(x), inputs_of(plain)))
            for name in names:
                here = np.abs(made[name]).reshape(-1, made[name].shape[-1]).max(0)
                largest[name] = np.maximum(largest.get(name, here), here)
            count += 1
        for one in found if count else ():
            _apply(model.graph, one, largest[str(one.read.name)])
        kept.seek(0)
        for _ in range(count):
            yield pickle.load(kept)


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


def _weight_of(layer: ir.Node) -> ir.Value | None:
    """The constant behind the marker of a MatMul or Gemm, which it reads as [C_out, C_in]."""
    if not is_op(layer, "MatMul", "Gemm") or (layer.op_type == "Gemm" and attribute(layer, "transA", 0)):
        return None
    marker = producer_of(layer.inputs[1])
    marker = producer_of(marker.inputs[0]) if marker is not None and is_op(marker, "Transpose") else marker
    weight = marker.inputs[0] if marker is not None and is_marker(marker) else None
    array = array_of(weight)
    return weight if array is not None and array.ndim == 2 else None


def _apply(graph: ir.Graph, one: Smoothed, largest: np.ndarray) -> None:
    if not np.isfinite(largest).all():
        return  # the grids name it
    arrays = [array_of(weight) for weight in one.weights]
    factor = factors(largest, [array for array in arrays if array is not None])
    if (factor == 1).all():
        return
    for weight, array in zip(one.weights, arrays, strict=True):
        assert array is not None
        larger = constant(graph, f"{weight.name}.smoothed", (array * factor).astype(np.float32))
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


def factors(largest: np.ndarray, weights: Sequence[np.ndarray]) -> np.ndarray:
    """f, float64 [C_in], ones where that is best. largest: max|x_j|. weights: [C_out, C_in] each."""
    whole = np.concatenate(weights).astype(np.float64)
    x, w = (np.maximum(values, SMALLEST) for values in (largest.astype(np.float64), np.abs(whole).max(0)))
    found = [x**a / w ** (1 - a) for a in STRENGTHS]
    best = min((f / np.exp(np.log(f).mean()) for f in found), key=lambda f: _error(x / f, whole * f))
    return best if _error(x / best, whole * best) * WORTH <= _error(x, whole) else np.ones_like(x)


def _error(largest: np.ndarray, weights: np.ndarray) -> float:
    """Mean square error of the outputs, in units that all f share. x has one step, each row of the weight its own."""
    of_inputs = largest.max() ** 2 * np.square(weights).sum()
    of_weights = np.square(np.abs(weights).max(1)).sum() * np.square(largest / PEAK).sum()
    return float(of_inputs + of_weights)
