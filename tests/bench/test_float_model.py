"""float_model: the trained network without its quantizers, as `bench` times it."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import lsq_export
from lsq_export.bench.float_model import float_model, float_model_of
from support.exported import Exported


@pytest.fixture(scope="module")
def proto(exported: Exported) -> onnx.ModelProto:
    return onnx.load_from_string(float_model_of(exported.bundle.directory))


def without_activation_grids(exported: Exported) -> torch.nn.Module:
    model = copy.deepcopy(exported.model)
    for quantizer in lsq_export.quantizers(model).values():
        quantizer.bypass = quantizer.kind == "activation"
    return model


def test_it_is_the_trained_network_with_low_bit_weights_and_float_activations(
    exported: Exported, proto: onnx.ModelProto
) -> None:
    with torch.no_grad():
        expected = without_activation_grids(exported)(torch.from_numpy(exported.inputs)).numpy()
        trained = exported.model(torch.from_numpy(exported.inputs)).numpy()
    (y,) = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"input": exported.inputs})
    largest = np.abs(expected).max()
    assert np.abs(y - expected).max() < 1e-5 * largest  # float32 sums in another order
    assert np.abs(y - trained).max() > 0.01 * largest  # the grids of activations do something


def test_no_quantizer_is_left(exported: Exported, proto: onnx.ModelProto) -> None:
    onnx.checker.check_model(proto)
    operators = [node.op_type for node in proto.graph.node]
    assert not {"QuantizeLinear", "DequantizeLinear", "FakeQuantize", "QLinearConv"} & set(operators)
    assert all(node.domain == "" for node in proto.graph.node) and [o.domain for o in proto.opset_import] == [""]
    assert {t.data_type for t in proto.graph.initializer} <= {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}
    layers = [m for m in exported.model.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
    assert operators.count("Conv") + operators.count("Gemm") == len(layers)
    assert operators.count("BatchNormalization") == 6


def test_the_batch_is_dynamic(proto: onnx.ModelProto) -> None:
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    for batch in (1, 3):
        assert session.run(None, {"input": np.zeros((batch, 1, 16, 16), np.float32)})[0].shape[0] == batch


def test_the_trained_graph_is_left_alone(exported: Exported) -> None:
    trained = onnx.load(exported.bundle.directory / "reference" / "trained.onnx")
    before = trained.SerializeToString(deterministic=True)
    float_model(trained)
    assert trained.SerializeToString(deterministic=True) == before
