"""keep_pairs_apart: pairs of a qdq file that an optimizer would merge are kept apart.

    Q(x; S, Z) -> DQ(S, Z) -> Q(s, z) -> DQ(s, z)   =>   Q(x; S, Z) -> DQ(S, Z) -> Q(s, z) -> Clip(0, 255) -> DQ(s, z)

Where nothing else reads what lies between, ONNX Runtime's DoubleQDQPairsRemover makes one pair of the two, on a grid of
256 codes over the range that both hold: low-bit codes are gone then. The Clip is none, for all codes are 0 … 255, and
it is what keeps the pattern from matching. In a qdq file alone: qoperator has no such pairs.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from calib.folding.containers import CONTAINER_MAX
from lsq_export.graph.edit import constant, copy, insert
from lsq_export.graph.read import array_of, is_op, sole_producer


def keep_pairs_apart(folded: ir.Model) -> ir.Model:
    """A copy in which no two pairs can be merged; the model itself where none can be."""
    if not any(_ends_two_pairs(node) for node in folded.graph):
        return folded
    model = copy(folded)
    for inner in list(model.graph):
        if _ends_two_pairs(inner):
            codes = inner.inputs[0]
            assert codes is not None
            name, made = str(codes.name), codes.producer()
            assert made is not None
            codes.name = made.name = f"{name}.made"
            bounds = [
                constant(model.graph, f"{name}.{what}", np.uint8(value))
                for what, value in (("lowest", 0), ("highest", CONTAINER_MAX))
            ]
            inner.replace_input_with(0, insert(inner, "Clip", [codes, *bounds], name, shape=codes.shape))
    return model


def _ends_two_pairs(inner: ir.Node) -> bool:
    """The node is the last of four that the optimizer would make two of."""
    again = _quantized_alike(inner)
    outer = sole_producer(again.inputs[0], "DequantizeLinear") if again is not None else None
    return outer is not None and _quantized_alike(outer) is not None


def _quantized_alike(dequantize: ir.Node) -> ir.Node | None:
    """The QuantizeLinear whose UINT8 codes this DequantizeLinear alone reads, on the same grid."""
    quantize = sole_producer(dequantize.inputs[0], "QuantizeLinear") if is_op(dequantize, "DequantizeLinear") else None
    if quantize is None:
        return None
    arrays = [array_of(v) for node in (quantize, dequantize) for v in node.inputs[1:3]]
    numbers = [a for a in arrays if a is not None and a.size == 1]
    if len(numbers) < 4 or any(zero_point.dtype != np.uint8 for zero_point in numbers[1::2]):
        return None
    return quantize if np.array_equal(numbers[0], numbers[2]) and np.array_equal(numbers[1], numbers[3]) else None
