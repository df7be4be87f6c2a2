"""Windows whose kernel or pads a file leaves to be worked out: what is written down computes the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch

import lsq_export
from lsq_export.adoption.network import infer
from lsq_export.adoption.windows import spell_windows
from lsq_export.graph.read import attribute

WINDOWS = [
    "Conv(x, w)",
    "Conv<auto_pad='SAME_UPPER', strides=[2, 2]>(x, w)",
    "Conv<auto_pad='SAME_LOWER', strides=[2, 3]>(x, w)",
    "Conv<auto_pad='VALID', kernel_shape=[2, 3]>(x, w)",
    "ConvTranspose<strides=[2, 2]>(x, w)",
    "MaxPool<auto_pad='SAME_UPPER', kernel_shape=[3, 2], strides=[2, 2]>(x)",
    "MaxPool<auto_pad='SAME_LOWER', kernel_shape=[2, 2]>(x)",
    "MaxPool<auto_pad='VALID', kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1>(x)",
    "AveragePool<auto_pad='SAME_UPPER', kernel_shape=[3, 3], strides=[2, 2]>(x)",
    "AveragePool<auto_pad='SAME_LOWER', kernel_shape=[2, 2], count_include_pad=1>(x)",
]


def _model(call: str) -> onnx.ModelProto:
    text = f"(float[N, 3, 7, 8] x) => (float[N, C, H, W] y) {{ y = {call} }}".replace("'", '"')
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> agraph {text}')
    weight = np.random.default_rng(0).normal(size=(3, 3, 2, 3)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    return model


def _run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


@pytest.mark.parametrize("call", WINDOWS)
def test_numbers_that_are_written_down_mean_the_same(call: str) -> None:
    model = ir.from_proto(_model(call))
    infer(model)
    spell_windows(model.graph)
    (node,) = model.graph
    assert attribute(node, "kernel_shape") is not None and attribute(node, "auto_pad") is None
    x = np.random.default_rng(1).normal(size=(2, 3, 7, 8)).astype(np.float32)
    np.testing.assert_array_equal(_run(ir.to_proto(model), x), _run(_model(call), x))


def test_sizes_that_vary_leave_pads_to_be_worked_out() -> None:
    proto = _model("Conv<auto_pad='SAME_UPPER', strides=[2, 2]>(x, w)")
    proto.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "H"
    model = ir.from_proto(proto)
    infer(model)
    spell_windows(model.graph)
    assert [attribute(node, "auto_pad") for node in model.graph] == ["SAME_UPPER"]


def test_a_convolution_without_its_kernel_is_folded_at_few_bits(tmp_path: Path) -> None:
    """At 8 bits alone nobody asked how many taps read the padding."""
    onnx.save(_model("Conv<pads=[1, 1, 1, 1]>(x, w)"), tmp_path / "net.onnx")
    batches = [torch.randn(8, 3, 7, 8, generator=torch.Generator().manual_seed(0))]
    config = lsq_export.QATConfig(weight_bits=2, activation_bits=2, first_last_bits=None, edges="calibrated")
    network = lsq_export.calibrate(tmp_path / "net.onnx", batches, config)
    bundle = lsq_export.export(network, None, tmp_path / "out", calibration=batches)
    assert bundle.parity is not None and bundle.parity.ok
