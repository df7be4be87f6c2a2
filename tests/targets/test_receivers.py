"""Written files in the runtimes that receive them: the numbers of ONNX Runtime, each operator for itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

import lsq_export
from lsq_export import lint
from lsq_export.rewrite.emit import emit
from lsq_export.targets import get
from support.networks import case_of, folded, inputs, train

LOW_BIT = ("geometry", "residual3", "preactivation", "two_readers")
NETWORKS = ("residual", "chain", "pools", "geometry")
ROUNDING = 1e-5  # of the largest output: what another order of float sums leaves
TIES = 1  # images in which one value lies so near to a rounding tie that another division decides otherwise


def operator_by_operator(file: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(file.SerializeToString(), options)
    output: np.ndarray = session.run(None, {session.get_inputs()[0].name: x})[0]
    return output


def images_that_differ(found: np.ndarray, expected: np.ndarray) -> int:
    apart = np.abs(found.astype(np.float64) - expected) > ROUNDING * np.abs(expected).max()
    return int(apart.reshape(len(apart), -1).any(axis=1).sum())


@pytest.mark.parametrize("network", NETWORKS)
def test_the_reference_evaluator_of_onnx(network: str) -> None:
    """It refuses the file of the default target, and computes that of `onnx-standard`."""
    x = inputs(2, 6, spread=3.0).numpy()
    file = emit(folded(network).model, "qdq", get("onnx-standard"))
    found = ReferenceEvaluator(file).run(None, {file.graph.input[0].name: x})[0]
    assert images_that_differ(found, operator_by_operator(file, x)) == 0
    with pytest.raises(RuntimeError, match="DequantizeLinear"):
        older = emit(folded(network).model, "qdq", get("ort-cpu"))
        ReferenceEvaluator(older).run(None, {older.graph.input[0].name: x})


@pytest.mark.slow
@pytest.mark.parametrize("network", LOW_BIT)
def test_openvino(network: str) -> None:
    """With the precision that the target's advice names, on every processor: none of these layers can saturate."""
    x = inputs(32, 6, spread=2.0).numpy()
    file = emit(folded(network).model, "qdq", get("openvino"))
    assert lint(file, "openvino").ok
    assert images_that_differ(openvino_of(file, x), operator_by_operator(file, x)) <= TIES


@pytest.mark.slow
@pytest.mark.parametrize("network", [*NETWORKS, "residual3", "negative8", "perceptron8", "channel"])
def test_openvino_in_floats(network: str) -> None:
    """Layers of 8 bits can saturate there, on old processors; with sums of codes in floats they cannot."""
    x = inputs(32, 6, spread=2.0).numpy()
    file = emit(folded(network).model, "qdq", get("openvino-float"))
    assert lint(file, "openvino-float").ok
    np.testing.assert_array_equal(openvino_of(file, x), operator_by_operator(file, x))


@pytest.mark.slow
def test_openvino_drops_the_grid_that_the_dialect_keeps() -> None:
    """The file of the default target differs there: the test above can fail."""
    x = inputs(32, 6, spread=2.0).numpy()
    plain = emit(folded("residual3").model, "qdq", get("ort-cpu"))
    assert "residual-grid" in {finding.rule for finding in lint(plain, "openvino").findings}
    assert images_that_differ(openvino_of(plain, x), operator_by_operator(plain, x)) > 4 * TIES


@pytest.mark.slow
@pytest.mark.parametrize("network", ["chain", "residual", "residual3", "integer", "pools"])
def test_qnn_compiles_all_to_one_context(network: str, tmp_path: Path) -> None:
    """For Qualcomm's HTP, with nothing left on the CPU; on any x86 processor, where it cannot run."""
    qnn: Any = pytest.importorskip("onnxruntime_qnn")
    if not any(device.ep_name == qnn.EP_NAME for device in onnxruntime.get_ep_devices()):
        onnxruntime.register_execution_provider_library(qnn.EP_NAME, qnn.get_library_path())
    context, low_bit = tmp_path / "context.onnx", train(case_of(network))
    asked: dict[str, Any] = {"target": "qnn-htp", "quantized_output": True, "calibration": [inputs(8, 1)]}
    bundle = lsq_export.export(low_bit, inputs(1, 1), tmp_path / "bundle", **asked)
    options = onnxruntime.SessionOptions()
    settings = {"ep.context_enable": "1", "ep.context_file_path": str(context)}
    for key, value in {**settings, "session.disable_cpu_ep_fallback": "1"}.items():
        options.add_session_config_entry(key, value)
    devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == qnn.EP_NAME]
    where = {"backend_path": qnn.get_qnn_htp_path(), "htp_arch": "73", "offload_graph_io_quantization": "0"}
    options.add_provider_for_devices(devices, where)
    onnxruntime.InferenceSession(bundle.models["qdq"], options)
    assert [node.op_type for node in onnx.load(context).graph.node] == ["EPContext"]


def openvino_of(file: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    openvino: Any = pytest.importorskip("openvino")
    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(file.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": "1"}
    )
    output: np.ndarray = np.array(compiled(x)[0])
    return output
