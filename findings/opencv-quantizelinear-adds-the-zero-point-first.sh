#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93 against onnxruntime 1.32.0, onnx 1.23.2: OpenCV's QuantizeLinear adds the zero point to
# the value in float32 before it rounds, in both of its engines; ONNX rounds to the nearest even first and adds then.
# Expected: y = saturate(rint(x / scale) + zero_point): 0.49999997 with the scale 1 and the zero point 121 is code 121.
# Seen: 122, because 0.49999997 + 121 is 121.5 in float32, a tie that goes to the even side. Ties themselves differ as well
# with odd zero points: 0.5 is 0 + 121 in ONNX, and 122 in OpenCV. With the zero point 0 there is no difference. A
# Round in front of QuantizeLinear makes both equal.
# The script fails if that changes.
set -euo pipefail
export ORT_DISABLE_TELEMETRY=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 \
  opencv-python-headless==5.0.0.93
"$work/env/bin/python" - <<'PYTHON'
import cv2
import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper

TIES = np.arange(-32, 32, dtype=np.float32) + np.float32(0.5)
BESIDE = [np.nextafter(TIES, np.float32(way)) for way in (-np.inf, np.inf)]
X = np.concatenate([TIES, *BESIDE, TIES - np.float32(0.5)]).reshape(1, 4, 8, 8)


def model(zero_point, rounded):
    n = helper.make_node
    nodes = [
        *([n("Round", ["x"], ["r"])] if rounded else []),
        n("QuantizeLinear", ["r" if rounded else "x", "scale", "zero"], ["codes"]),
        n("DequantizeLinear", ["codes", "scale", "zero"], ["y"]),
    ]
    made = [numpy_helper.from_array(np.float32(1), "scale"), numpy_helper.from_array(np.uint8(zero_point), "zero")]
    inputs, outputs = ([helper.make_tensor_value_info(name, TensorProto.FLOAT, X.shape)] for name in ("x", "y"))
    graph = helper.make_graph(nodes, "g", inputs, outputs, made)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(proto, full_check=True)
    return proto.SerializeToString()


def opencv(proto, engine):
    network = cv2.dnn.readNetFromONNX(np.frombuffer(proto, np.uint8), engine=engine)
    network.setInput(X.copy())
    return network.forward()


for zero_point in (0, 121):
    for rounded in (False, True):
        proto = model(zero_point, rounded)
        expected = np.clip(np.rint(X.astype(np.float64)), -zero_point, 255 - zero_point)
        session = onnxruntime.InferenceSession(proto, providers=["CPUExecutionProvider"])
        assert np.array_equal(session.run(None, {"x": X})[0], expected), "ONNX Runtime has changed"
        first = np.clip(np.rint(X + np.float32(zero_point)), 0, 255) - zero_point
        for name, engine in (("new", cv2.dnn.ENGINE_NEW), ("classic", cv2.dnn.ENGINE_CLASSIC)):
            found = opencv(proto, engine)
            differ = int((found != expected).sum())
            what = "Round before" if rounded else "plain"
            print(f"zero point {zero_point}, {what}, {name} engine: {differ} of {X.size} differ")
            if rounded or zero_point == 0:
                assert differ == 0, "OpenCV has changed"
            else:
                assert np.array_equal(found, first) and differ > 0, "OpenCV has changed"
print("as described")
PYTHON
