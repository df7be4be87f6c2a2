"""Group norms of all operator sets: with a factor for each group (18 to 20), or for each channel (from 21)."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime as ort
import pytest

from lsq_export.adoption.group_norms import GROUP_NORM
from lsq_export.adoption.network import infer_spelled


@pytest.mark.parametrize(("opset", "factors"), [(18, 3), (20, 3), (21, 6), (23, 6)])
@pytest.mark.parametrize("shape", [(4, 5), (7,)])
def test_they_compute_the_same(opset: int, factors: int, shape: tuple[int, ...]) -> None:
    sizes = ", ".join(map(str, (6, *shape)))
    text = (
        f'<ir_version: 8, opset_import: ["" : {opset}]> g (float[N, {sizes}] x) => (float[N, {sizes}] y)'
        "{ y = GroupNormalization<num_groups = 3, epsilon = 0.01>(x, scale, bias) }"
    )
    proto = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    for name in ("scale", "bias"):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(rng.normal(size=factors).astype(np.float32), name))
    x = rng.normal(size=(2, 6, *shape)).astype(np.float32)
    grouped = x.reshape(2, 3, 2, *shape).astype(np.float64)
    axes = tuple(range(2, grouped.ndim))
    normed = (grouped - grouped.mean(axes, keepdims=True)) / np.sqrt(grouped.var(axes, keepdims=True) + 0.01)
    gamma, beta = (
        np.repeat(onnx.numpy_helper.to_array(tensor), 6 // factors).reshape(6, *[1] * len(shape))
        for tensor in proto.graph.initializer
    )
    model = ir.from_proto(proto)
    infer_spelled(model)
    assert all(node.op_type != GROUP_NORM for node in model.graph)
    model.graph.opset_imports[""] = 20  # as graphs are kept
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"x": x})[0]
    np.testing.assert_allclose(found, normed.reshape(x.shape) * gamma + beta, atol=2e-5)
