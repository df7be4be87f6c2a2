#!/usr/bin/env bash
# onnxruntime-extensions 0.15.2, onnx 1.23.2, onnxruntime 1.32.0: PrePostProcessor adds pre- and post-processing to a
# model, and loses the model's own com.microsoft among the operator sets: it refuses quantized models with ONNX Runtime's
# QLinearAdd, QLinearSigmoid and so on, which quantize_static writes (QuantFormat.QOperator).
# Expected: a model with the steps added, as for the same model with DequantizeLinear, Add and QuantizeLinear.
# Seen: ValidationError "No opset import for domain 'com.microsoft'", although the model has that import, and its checker
# and ONNX Runtime take it. onnx.compose.merge_models adds the same step to the same model.
# The script fails if that changes.
set -euo pipefail
export ORT_DISABLE_TELEMETRY=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check \
  onnxruntime-extensions==0.15.2 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
"$work/env/bin/python" - <<'PYTHON'
import numpy as np
import onnx
import onnxruntime as ort
from onnx import checker, compose, parser
from onnxruntime_extensions.tools import pre_post_processing as steps

HEAD = '<ir_version: 8, opset_import: ["" : 18, "com.microsoft" : 1]> '
GRIDS = "<float s = {0.5}, uint8 z = {3}, float t = {1.0}>"
SUMS = {
    "QLinearAdd": "c = com.microsoft.QLinearAdd (q, s, z, q, s, z, t, z)",
    "Add": "v = DequantizeLinear(q, s, z)  a = Add(v, v)  c = QuantizeLinear(a, t, z)",
}


def run(model, x):
    return ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]


x = np.linspace(-2, 9, 24, dtype=np.float32).reshape(2, 12)
outputs = {}
for name, line in SUMS.items():
    body = f"{{ q = QuantizeLinear(x, s, z)  {line}  y = DequantizeLinear(c, t, z) }}"
    model = parser.parse_model(f"{HEAD} g (float[n,12] x) => (float[n,12] y) {GRIDS} {body}")
    checker.check_model(model)
    outputs[name] = run(model, x)
    processor = steps.PrePostProcessor([steps.create_named_value("x", onnx.TensorProto.FLOAT, ["n", 12])], 18)
    processor.add_post_processing([steps.Identity()])
    try:
        found = run(processor.run(model), x)
        said = "added"
    except checker.ValidationError as error:
        said = str(error).splitlines()[0]
    print(f"{name}: {said}")
    assert said == ("added" if name == "Add" else "No opset import for domain 'com.microsoft'"), "it has changed"
    behind = parser.parse_model(f"{HEAD} b (float[n,12] p) => (float[n,12] r) {{ r = Identity(p) }}")
    assert np.array_equal(run(compose.merge_models(model, behind, [("y", "p")]), x), outputs[name])
assert np.array_equal(outputs["Add"], outputs["QLinearAdd"]) and np.array_equal(found, outputs["Add"])
print("as described")
PYTHON
