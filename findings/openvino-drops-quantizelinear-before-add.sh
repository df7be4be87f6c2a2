#!/usr/bin/env bash
# openvino 2026.4.1 against onnxruntime 1.32.0, onnx 1.23.2: OpenVINO leaves out the QuantizeLinear and DequantizeLinear
# between a quantized convolution and the addition behind it, where the other operand is computed, too (a residual block).
# Expected: y = Q(DQ(Q(conv(x))) + skip(x)), as the file says; the inner grid has steps of 8, the outer one of 1.
# Seen: Q(conv(x) + skip(x)) in every element, other codes in most of them; not changed by INFERENCE_PRECISION_HINT f32 and
# EXECUTION_MODE_HINT ACCURACY. Where the other operand is x itself, the inner grid is there. ONNX Runtime computes what the
# file says in both cases. All scales are powers of two, all values are small integers, and nothing is near a tie.
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

SHAPE = [1, 16, 8, 8]
W = np.random.default_rng(0).integers(-3, 4, (16, 16)).astype(np.int8)
CONSTANTS = {
    **{"one": np.float32(1), "eight": np.float32(8), "none": np.uint8(0), "middle": np.uint8(128)},
    **{"w": W.reshape(16, 16, 1, 1), "w_zero": np.int8(0), "bias": np.ones(16, np.float32)},
}


def model(pooled):
    """pooled: the other operand is a max pool of x, else it is x."""
    n = helper.make_node
    nodes = [
        n("DequantizeLinear", ["x", "one", "none"], ["values"]),
        n("DequantizeLinear", ["w", "one", "w_zero"], ["weights"]),
        n("Conv", ["values", "weights", "bias"], ["sums"]),
        n("QuantizeLinear", ["sums", "eight", "middle"], ["codes"]),
        n("DequantizeLinear", ["codes", "eight", "middle"], ["branch"]),
        *([n("MaxPool", ["values"], ["pool"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])] if pooled else []),
        n("Add", ["branch", "pool" if pooled else "values"], ["added"]),
        n("QuantizeLinear", ["added", "one", "middle"], ["added_codes"]),
        n("DequantizeLinear", ["added_codes", "one", "middle"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.UINT8, SHAPE)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, SHAPE)]
    made = [numpy_helper.from_array(np.asarray(value), name) for name, value in CONSTANTS.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, made)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(proto, full_check=True)
    return proto.SerializeToString()


x = (2 * np.random.default_rng(1).integers(0, 8, SHAPE)).astype(np.uint8)
sums = np.einsum("nihw,oi->nohw", x.astype(np.int64), W.astype(np.int64)) + 1  # odd, so that none is at a tie of eights
assert (sums % 2 == 1).all() and -1024 <= sums.min() and sums.max() < 1016
padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
pool = np.max([padded[:, :, i : i + 8, j : j + 8] for i in range(3) for j in range(3)], axis=0)
for pooled in (False, True):
    skip = (pool if pooled else x).astype(np.int64)
    expected, without = (np.clip(v + skip, -128, 127) for v in (8 * np.rint(sums / 8), sums))
    proto = model(pooled)
    session = onnxruntime.InferenceSession(proto, providers=["CPUExecutionProvider"])
    assert np.array_equal(session.run(None, {"x": x})[0], expected), "ONNX Runtime has changed"
    for mode in ("PERFORMANCE", "ACCURACY"):
        hints = {"INFERENCE_PRECISION_HINT": "f32", "EXECUTION_MODE_HINT": mode}
        core = openvino.Core()
        found = core.compile_model(core.read_model(proto), "CPU", hints)([x])[0]
        differ = [int((found != value).sum()) for value in (expected, without)]
        other = "a max pool of x" if pooled else "x"
        print(f"+ {other}, {mode}: of {found.size}, {differ[0]} are not as the file says,", end=" ")
        print(f"{differ[1]} not as without the inner grid")
        assert differ[1 if pooled else 0] == 0 < differ[0 if pooled else 1], "OpenVINO has changed"
print("as described")
PYTHON
