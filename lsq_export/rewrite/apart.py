"""apart: pairs of a qdq file that an optimizer would merge are kept apart.

    Q(x; S, Z) -> DQ(S, Z) -> Q(s, z) -> DQ(s, z)   =>   Q(x; S, Z) -> DQ(S, Z) -> Q(s, z) -> Clip(0, 255) -> DQ(s, z)

Where nothing else reads what lies between, ONNX Runtime's DoubleQDQPairsRemover makes one pair of the two, on a grid of 256 codes over the range that
both hold: low-bit codes are gone then. The Clip is none, for all codes are 0 … 255, and it is what keeps the pattern from matching. In a qdq file
alone: qoperator has no such pairs.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from calib.fold import CONTAINER_MAX

from ..graph import array_of, constant, copy, insert, is_op, single_consumer


def keep_pairs_apart(folded: ir.Model) -> ir.Model:
    """A copy in which no two pairs can be merged."""
    model = copy(folded)
    for node in [n for n in model.graph if is_op(n, "DequantizeLinear")]:
        inner = _merged_into(node)
        if inner is not None:
            codes = inner.inputs[0]
            assert codes is not None
            name, made = str(codes.name), codes.producer()
            assert made is not None
            codes.name = made.name = f"{name}.made"
            bounds = [constant(model.graph, f"{name}.{what}", np.uint8(value)) for what, value in (("lowest", 0), ("highest", CONTAINER_MAX))]
            clipped = insert(inner, "Clip", [codes, *bounds], name, shape=codes.shape)
            inner.replace_input_with(0, clipped)
    return model


def _merged_into(outer: ir.Node) -> ir.Node | None:
    """The DequantizeLinear of the pair behind the one that ends with `outer`, if both are as the optimizer wants them."""
    made = outer.inputs[0].producer() if outer.inputs[0] is not None else None
    if made is None or not _pair(made, outer):
        return None
    again = next(iter(outer.outputs[0].consumers()), None)
    if again is None or not single_consumer(outer.outputs[0]) or not is_op(again, "QuantizeLinear"):
        return None
    inner = next(iter(again.outputs[0].consumers()), None)
    return inner if inner is not None and _pair(again, inner) else None


def _pair(quantize: ir.Node, dequantize: ir.Node) -> bool:
    """Both UINT8, with one scale and zero point, the same ones; and nobody else reads the codes."""
    if not is_op(quantize, "QuantizeLinear") or not is_op(dequantize, "DequantizeLinear") or not single_consumer(quantize.outputs[0]):
        return False
    grids = [[array_of(v) for v in node.inputs[1:3]] for node in (quantize, dequantize)]
    if any(a is None or a.size != 1 for grid in grids for a in grid):
        return False
    return all(np.array_equal(a, b) for a, b in zip(*grids, strict=True)) and grids[0][1].dtype == np.uint8  # type: ignore[union-attr]
