"""saturating_pairs: the ends of a container limit low-bit codes, for receivers that take no Clip around a layer.

    Clip(QuantizeLinear(x; S, Z), n, p), codes bottom … top in the container
        =>  a = QuantizeLinear(x; S, Z + top - p)                                   min(q, p) + top - p
            b = QuantizeLinear(DequantizeLinear(a; S, Z + top - p); S, Z - n + bottom)    where n > bottom
            c = QuantizeLinear(DequantizeLinear(b; S, Z - n + bottom); S, Z)

Exact: a DequantizeLinear of codes and a QuantizeLinear on the same scale move codes by the difference of the zero
points, as a quotient k·S/S rounds to k, and saturate. Never for ONNX Runtime's default optimization, which merges them.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import clean, constant, insert, replace
from lsq_export.graph.read import constant_of, is_op, sole_producer

from .float_clips import is_on_codes


def saturating_pairs(model: ir.Model) -> None:
    """In a QDQ graph; what it cannot do stays a Clip: codes that no QuantizeLinear makes, or real zero beyond them."""
    graph = model.graph
    for clip in [node for node in graph if is_op(node, "Clip") and is_on_codes(node)]:
        quantize = sole_producer(clip.inputs[0], "QuantizeLinear")
        if quantize is not None:
            _saturate(graph, clip, quantize)
    clean(model)


def _saturate(graph: ir.Graph, clip: ir.Node, quantize: ir.Node) -> None:
    codes, name = quantize.outputs[0], str(clip.outputs[0].name)
    stored = constant_of(quantize.inputs[2], name)
    limits = np.iinfo(stored.dtype)
    zero, low, high = (int(value) for value in (stored, *(constant_of(v, name) for v in clip.inputs[1:3])))
    if not low <= zero <= high:
        return
    steps = [zero + limits.max - high, *([zero - low + limits.min] if low > limits.min else []), zero]
    scale = quantize.inputs[1]
    points = [constant(graph, f"{name}.zero_{index}", stored.dtype.type(step)) for index, step in enumerate(steps)]
    quantize.replace_input_with(2, points[0])
    made = codes
    for index, (before, after) in enumerate(pairwise(points), 1):
        values = insert(clip, "DequantizeLinear", [made, scale, before], f"{name}.values_{index}", shape=codes.shape)
        made = insert(clip, "QuantizeLinear", [values, scale, after], f"{name}.moved_{index}", shape=codes.shape)
        made.type = codes.type
    codes.name = f"{name}.saturated"
    replace(clip.outputs[0], made)
    graph.remove(clip, safe=True)
    made.name = name
