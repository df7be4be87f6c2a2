"""lsq_export/rewrite/lowering/saturating_pairs.py: a Clip on codes becomes pairs that saturate, with the same codes."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from lsq_export.rewrite.lowering.saturating_pairs import saturating_pairs
from support.networks import operators

SCALE = np.float32(0.037)


def limited(dtype: type, zero: int, low: int, high: int) -> onnx.ModelProto:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("Clip", ["q", "low", "high"], ["c"]),
        helper.make_node("DequantizeLinear", ["c", "s", "z"], ["y"]),
    ]
    constants = {"s": SCALE, "z": dtype(zero), "low": dtype(low), "high": dtype(high)}
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch"]) for name in "xy"]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "limited", values[:1], values[1:], tensors)
    return onnx.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    )


def run(model: onnx.ModelProto) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    x = np.concatenate([np.arange(-600, 600) * SCALE / 2, [-1e9, 1e9, 0]]).astype(np.float32)
    (y,) = onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {"x": x})
    return np.asarray(y)


@pytest.mark.parametrize(
    ("dtype", "zero", "low", "high", "pairs"),
    [
        (np.uint8, 3, 0, 15, 2),
        (np.uint8, 0, 0, 15, 2),
        (np.uint8, 15, 0, 15, 2),
        (np.uint8, 245, 240, 255, 3),
        (np.uint8, 107, 100, 115, 3),
        (np.int8, 0, -8, 7, 3),
        (np.int8, -128, -128, -113, 2),
    ],
)
def test_the_codes_are_the_same(dtype: type, zero: int, low: int, high: int, pairs: int) -> None:
    was = limited(dtype, zero, low, high)
    model = ir.from_proto(was)
    saturating_pairs(model)
    assert "Clip" not in operators(model) and operators(model).count("QuantizeLinear") == pairs
    np.testing.assert_array_equal(run(ir.to_proto(model)), run(was))


def test_codes_without_real_zero_stay_clipped() -> None:
    model = ir.from_proto(limited(np.uint8, 200, 0, 15))
    saturating_pairs(model)
    assert operators(model).count("Clip") == 1
