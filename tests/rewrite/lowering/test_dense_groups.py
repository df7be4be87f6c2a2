"""dense_groups: for OpenCV, convolutions of single pixels have one group, and the same sums."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from lsq_export import lint
from lsq_export.graph.read import attribute
from lsq_export.rewrite.lowering.dense_groups import dense_groups
from support.onnx_files import F32, I8, U8, build, node

CHANNELS = 6
SHAPE = (1, ["N", CHANNELS, 5, 5])  # float


def grouped(weight: np.ndarray, zeros: np.ndarray | None, groups: int) -> ir.Model:
    """zeros: of the codes of the weight; None for a float weight."""
    nodes = [
        node("QuantizeLinear", "x s z", "q", name="q"),
        node("DequantizeLinear", "q s z", "v", name="v"),
        node("DequantizeLinear", "w ws wz", "wv", name="w", axis=0),
        node("Conv", "v wv" if zeros is not None else "v w", "y", name="conv", group=groups),
    ]
    grid = {} if zeros is None else {"ws": np.full(len(weight), 0.25, F32), "wz": zeros}
    if zeros is None:
        nodes.pop(2)
    return ir.from_proto(build(nodes, 19, SHAPE, s=F32(0.5), z=U8(3), w=weight, **grid))


@pytest.mark.parametrize(("kind", "zeros"), [(I8, 0), (U8, 128), (F32, None)])
@pytest.mark.parametrize(
    ("groups", "kernel", "densed"), [(2, 1, True), (3, 1, True), (6, 1, False), (1, 1, False), (2, 3, False)]
)
def test_sums_are_the_same(kind: type, zeros: int | None, groups: int, kernel: int, densed: bool) -> None:
    """Where pixels are in groups of several channels, they have one; each channel has another zero point."""
    random = np.random.default_rng(0)
    codes = random.integers(0, 100, (12, CHANNELS // groups, kernel, kernel)).astype(kind)
    points = None if zeros is None else (np.arange(12) + zeros).astype(kind)
    model, x = grouped(codes, points, groups), random.normal(size=(2, CHANNELS, 5, 5)).astype(F32) * 9
    before = ReferenceEvaluator(ir.to_proto(model)).run(None, {"x": x})[0]
    dense_groups(model)
    conv = next(n for n in model.graph if n.op_type == "Conv")
    assert attribute(conv, "group") == (1 if densed else groups)
    np.testing.assert_array_equal(ReferenceEvaluator(ir.to_proto(model)).run(None, {"x": x})[0], before)
    found = {f.rule for f in lint(ir.to_proto(grouped(codes, points, groups)), "opencv").findings}
    assert ("grouped-pixels" in found) == densed
    assert "grouped-pixels" not in {f.rule for f in lint(ir.to_proto(model), "opencv").findings}
