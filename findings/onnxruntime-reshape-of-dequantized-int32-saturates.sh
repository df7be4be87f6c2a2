#!/usr/bin/env bash
# ONNX Runtime 1.32.0: at the default optimization level, Reshape(DequantizeLinear(x)) of int32 values with one scale
# gives values of 0 … 255 steps: the optimizer puts an 8-bit QuantizeLinear and DequantizeLinear behind the Reshape.
# Expected: the values of ONNX's definition, which the same version gives with optimization disabled: -5, 0.3, 100.
# Seen: 0, 0.3, 25.5, without an error or a warning.
# The script fails if that changes.
set -euo pipefail
export ORT_DISABLE_TELEMETRY=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0
"$work/env/bin/python" - <<'PYTHON'
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

nodes = [helper.make_node("DequantizeLinear", ["x", "scale"], ["values"]), helper.make_node("Reshape", ["values", "shape"], ["y"])]
constants = [numpy_helper.from_array(np.float32(0.1), "scale"), numpy_helper.from_array(np.array([-1]), "shape")]
given = helper.make_tensor_value_info("x", TensorProto.INT32, [3, 1])
made = helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])
graph = helper.make_graph(nodes, "g", [given], [made], constants)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.checker.check_model(model, full_check=True)
seen = {}
for name, level in (("disabled", ort.GraphOptimizationLevel.ORT_DISABLE_ALL), ("default", ort.GraphOptimizationLevel.ORT_ENABLE_ALL)):
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    seen[name] = session.run(None, {"x": np.array([[-50], [3], [1000]], np.int32)})[0]
    print(name, seen[name].tolist())
assert np.allclose(seen["disabled"], [-5, 0.3, 100]) and np.allclose(seen["default"], [0, 0.3, 25.5])
print("as described: the default level saturates at 8 bits")
PYTHON
