"""Biases name their zero point: the same values, and files that ONNX Runtime's own tools take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from lsq_export import targets
from lsq_export.rewrite.emit import emit
from lsq_export.rewrite.lowering.bias_zero_points import bias_zero_points
from lsq_export.rewrite.lowering.dialects import in_dialect
from lsq_export.verification.layer_parity import float_rounding
from support.networks import folded, inputs

NETWORKS = ("residual", "chain")


def biases(file: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The DequantizeLinears of biases."""
    made = {node.output[0]: node for node in file.graph.node}
    layers = [node for node in file.graph.node if node.op_type in ("Conv", "Gemm")]
    return [made[node.input[2]] for node in layers]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", ["ort-cpu", "web"])
def test_every_bias_has_zeros_in_the_shape_of_its_scale(name: str, network: str) -> None:
    file = emit(folded(network).model, "qdq", targets.get(name))
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in file.graph.initializer}
    found = biases(file)
    assert found
    for node in found:
        codes, scale, zero = (values[name] for name in node.input)
        assert zero.dtype == codes.dtype == np.int32 and zero.shape == scale.shape and not zero.any()


def test_zero_points_that_are_there_stay() -> None:
    model = in_dialect(folded("chain").model, ["bias-zero-points"])
    before = [tuple(node.inputs) for node in model.graph]
    bias_zero_points(model)
    assert [tuple(node.inputs) for node in model.graph] == before


@pytest.mark.parametrize("network", NETWORKS)
def test_runtime_optimizations_can_be_saved(network: str, tmp_path: Path) -> None:
    """As convert_onnx_models_to_ort --optimization_style Runtime does; outputs are as near as those of a qdq file."""
    file = emit(folded(network).model, "qdq", targets.get("ort-cpu")).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "model.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.add_session_config_entry("optimization.minimal_build_optimizations", "save")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(file, options)
    x = inputs(4, 5, spread=3.0).numpy()
    outputs = [onnxruntime.InferenceSession(one).run(None, {"input": x}) for one in (file, str(tmp_path / "model.ort"))]
    for expected, found in zip(*outputs, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=float_rounding(expected))
