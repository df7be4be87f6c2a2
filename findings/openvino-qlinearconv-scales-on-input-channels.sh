#!/usr/bin/env bash
# openvino 2026.4.1 against onnxruntime 1.32.0, onnx 1.23.2: OpenVINO applies the per-channel weight scales of an ONNX
# QLinearConv to the input channels of the weights.
# Expected: w_scale [M] belongs to the M output channels, as the operator's definition has it.
# Seen: with as many input as output channels, other codes and no word about it, equal to those with the scales on the
# input channels in every element; with other numbers of channels the model is refused. ONNX Runtime gives the codes of
# the definition. All scales are powers of two and no sum is near a tie.
# The script fails if that changes.
set -euo pipefail
export ORT_DISABLE_TELEMETRY=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
# --no-deps leaves out openvino-telemetry, which openvino works without.
"$work/env/bin/pip" install --quiet --disable-pip-version-check --no-deps openvino==2026.4.1
"$work/env/bin/python" - <<'PYTHON'
import numpy as np
import onnxruntime
import openvino
from onnx import TensorProto, checker, helper, numpy_helper


def model(w, w_scale):
    constants = {"x_scale": np.float32(1), "x_zero": np.uint8(0), "w": w, "w_scale": w_scale}
    constants |= {"w_zero": np.zeros(len(w), np.int8), "y_scale": np.float32(1), "y_zero": np.uint8(128)}
    node = helper.make_node("QLinearConv", ["x", *constants], ["y"])
    channels = {"x": w.shape[1], "y": w.shape[0]}
    infos = [helper.make_tensor_value_info(name, TensorProto.UINT8, [1, c, 4, 4]) for name, c in channels.items()]
    made = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph([node], "g", infos[:1], infos[1:], made)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(proto, full_check=True)
    return proto.SerializeToString()


def codes(x, w):
    sums = np.einsum("nihw,oi->nohw", x.astype(np.float64), w)
    assert (np.abs(sums - np.floor(sums) - 0.5) > 0.1).all()  # no ties
    return np.clip(np.rint(sums) + 128, 0, 255).astype(np.uint8)


def in_openvino(proto, x):
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(proto), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled([x])[0]


rng = np.random.default_rng(0)
x = (4 * rng.integers(0, 8, (1, 2, 4, 4))).astype(np.uint8)
w = np.array([[1, -2], [3, 1]], np.int8)
w_scale = np.array([1, 0.25], np.float32)
proto = model(w.reshape(2, 2, 1, 1), w_scale)
on_outputs, on_inputs = codes(x, w * w_scale[:, None]), codes(x, w * w_scale[None, :])
session = onnxruntime.InferenceSession(proto, providers=["CPUExecutionProvider"])
theirs, found = session.run(None, {"x": x})[0], in_openvino(proto, x)
for name, value in (("ONNX Runtime", theirs), ("OpenVINO", found)):
    print(f"{name}: {(value != on_outputs).sum()} of {value.size} codes differ from the definition,", end=" ")
    print(f"{(value != on_inputs).sum()} from scales on the input channels")
assert np.array_equal(theirs, on_outputs), "ONNX Runtime has changed"
assert np.array_equal(found, on_inputs) and not np.array_equal(found, on_outputs), "OpenVINO has changed"
try:
    in_openvino(model(np.ones((3, 2, 1, 1), np.int8), np.array([1, 0.25, 0.5], np.float32)), x)
except RuntimeError as error:
    assert "QLinearConv" in str(error), error
    print("3 output channels of 2 input channels are refused")
else:
    raise AssertionError("3 output channels are no longer refused")
print("as described")
PYTHON
