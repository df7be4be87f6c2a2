"""one_dequantize: for LiteRT, codes have one DequantizeLinear, and the same values to the bit."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from lsq_export import lint
from lsq_export.rewrite.lowering.one_dequantize import one_dequantize
from support.onnx_files import F32, I8, U8, build, node

X = np.random.default_rng(0).normal(size=(4, 3)).astype(F32) * 30


def twice(first: float, second: float, zero: np.integer, other: np.integer | None = None) -> ir.Model:
    """y = DequantizeLinear(q; second) + DequantizeLinear(q; first), of codes on a third scale."""
    nodes = [
        node("QuantizeLinear", "x s z", "q", name="q"),
        node("DequantizeLinear", "q b o", "second", name="second"),
        node("DequantizeLinear", "q a z", "first", name="first"),
        node("Add", "first second", "y", name="sum"),
    ]
    scales = {"s": F32(0.7), "a": F32(first), "b": F32(second)}
    return ir.from_proto(build(nodes, 19, (1, ["N", 3]), z=zero, o=zero if other is None else other, **scales))


@pytest.mark.parametrize("zero", [U8(128), I8(-3)])
def test_values_are_the_same(zero: np.integer) -> None:
    model = twice(1.0, 0.0371, zero)
    before = ReferenceEvaluator(ir.to_proto(model)).run(None, {"x": X})[0]
    assert [one.rule for one in lint(ir.to_proto(model), "litert").findings if not one.is_note] == ["one-dequantize"]
    one_dequantize(model)
    assert sum(node.op_type == "DequantizeLinear" for node in model.graph) == 1
    np.testing.assert_array_equal(ReferenceEvaluator(ir.to_proto(model)).run(None, {"x": X})[0], before)
    assert not [one for one in lint(ir.to_proto(model), "litert").findings if not one.is_note]


@pytest.mark.parametrize("model", [twice(0.5, 0.25, U8(1)), twice(1.0, 0.25, U8(1), U8(2)), twice(1.0, 1.0, U8(1))])
def test_what_has_no_scale_of_one_or_another_zero_point_stays(model: ir.Model) -> None:
    """A quotient of two scales would round."""
    one_dequantize(model)
    assert sum(node.op_type == "DequantizeLinear" for node in model.graph) == 2
