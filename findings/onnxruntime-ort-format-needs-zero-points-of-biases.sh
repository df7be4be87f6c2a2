#!/usr/bin/env bash
# onnxruntime 1.32.0, onnx 1.23.2: convert_onnx_models_to_ort --optimization_style Runtime refuses a valid QDQ model in
# which the DequantizeLinear of a convolution's INT32 bias has no zero point, which ONNX says is optional, and 0 then.
# Expected: two .ort files, as with a zero point of 0, which is the same model.
# Seen: "This is an invalid model. The sum of input arg count is not equal to size of input defs in node", exit code 1.
# The style Fixed takes both, and so does a session. Without a bias there is no error, although no other input changes.
# The script fails if that changes.
set -euo pipefail
export ORT_DISABLE_TELEMETRY=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$work"
"$work/env/bin/python" - <<'PYTHON'
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, checker, helper, numpy_helper

W = np.random.default_rng(0).integers(-9, 10, (4, 3, 1, 1)).astype(np.int8)
CONSTANTS = {
    **{"s": np.float32(0.5), "z": np.uint8(3), "w": W, "w_scale": np.float32(0.25), "w_zero": np.int8(0)},
    **{"b": np.arange(4, dtype=np.int32), "b_scale": np.float32(0.125), "b_zero": np.int32(0), "one": np.float32(1)},
}


def model(bias):
    """bias: the inputs of its DequantizeLinear; none: the convolution has no bias."""
    n = helper.make_node
    nodes = [
        n("QuantizeLinear", ["x", "s", "z"], ["codes"]),
        n("DequantizeLinear", ["codes", "s", "z"], ["values"]),
        n("DequantizeLinear", ["w", "w_scale", "w_zero"], ["weights"]),
        *([n("DequantizeLinear", bias, ["bias"])] if bias else []),
        n("Conv", ["values", "weights", *(["bias"] if bias else [])], ["sums"]),
        n("QuantizeLinear", ["sums", "one", "z"], ["sum_codes"]),
        n("DequantizeLinear", ["sum_codes", "one", "z"], ["y"]),
    ]
    used = {name for node in nodes for name in node.input}
    constants = [numpy_helper.from_array(np.asarray(v), name) for name, v in CONSTANTS.items() if name in used]
    values = [helper.make_tensor_value_info(*v) for v in (("x", TensorProto.FLOAT, [1, 3, 4, 4]), ("y", TensorProto.FLOAT, [1, 4, 4, 4]))]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(proto, full_check=True)
    return proto


x = np.random.default_rng(1).normal(size=(1, 3, 4, 4)).astype(np.float32)
CASES = {"zero point": ["b", "b_scale", "b_zero"], "no zero point": ["b", "b_scale"], "no bias": []}
outputs = {}
for name, bias in CASES.items():
    onnx.save(model(bias), "model.onnx")
    outputs[name] = ort.InferenceSession("model.onnx").run(None, {"x": x})[0]
    for style in ("Fixed", "Runtime"):
        tool = [sys.executable, "-m", "onnxruntime.tools.convert_onnx_models_to_ort", "model.onnx"]
        done = subprocess.run([*tool, "--optimization_style", style], capture_output=True, text=True)
        said = done.stderr.strip().splitlines()[-1].split(" : ")[-1] if done.returncode else ""
        print(f"{name}, {style}: exit code {done.returncode} {said}")
        wrong = (name, style) == ("no zero point", "Runtime")
        assert (done.returncode != 0) == wrong, "it has changed"
        assert not wrong or "sum of input arg count is not equal to size of input defs" in said, said
assert np.array_equal(outputs["zero point"], outputs["no zero point"])
print("as described")
PYTHON
