#!/usr/bin/env bash
# onnxscript 0.7.2 with onnx-ir 1.1.0: onnxscript.optimizer.optimize writes an invalid file of a valid one in which two
# Flattens read one tensor, or two rows of two Clips: both new constants are called after the tensor that is read, and
# the file has one of them alone.
# Expected: a file that computes the same.
# Seen: the second node reads "x/shape_1" (or "x_min_1"), which nothing makes; onnx's checker and ONNX Runtime 1.32.0
# refuse it. With one Flatten, or one row of Clips, the file is right.
# The script fails if that changes.
set -euo pipefail
export ORT_DISABLE_TELEMETRY=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check \
  onnxscript==0.7.2 onnx-ir==1.1.0 onnx==1.23.2 onnxruntime==1.32.0
"$work/env/bin/python" - <<'PYTHON'
import numpy as np
import onnx
import onnxruntime as ort
from onnx import parser
from onnxscript import optimizer

HEAD = '<ir_version: 8, opset_import: ["" : 18]> '
CLIPS = "<float a = {-1}, float b = {1}, float c = {-0.5}, float d = {0.5}>"
FILES = {
    "one Flatten": "g (float[n,3,4] x) => (float[n,12] y) { f = Flatten<axis=1>(x)  y = Relu(f) }",
    "two Flattens": """g (float[n,3,4] x) => (float[n,12] y) {
        f = Flatten<axis=1>(x)  r = Relu(f)  h = Flatten<axis=1>(x)  y = Add(r, h) }""",
    "one row of Clips": f"g (float[n,12] x) => (float[n,12] y) {CLIPS} {{ p = Clip(x, a, b)  y = Clip(p, c, d) }}",
    "two rows of Clips": f"""g (float[n,12] x) => (float[n,12] y) {CLIPS} {{
        p = Clip(x, a, b)  q = Clip(p, c, d)  r = Clip(x, c, b)  s = Clip(r, a, d)  y = Add(q, s) }}""",
}


def run(model, x):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


for name, text in FILES.items():
    model = parser.parse_model(HEAD + text)
    onnx.checker.check_model(model)
    shape = (2, 3, 4) if "Flatten" in name else (2, 12)
    x = np.linspace(-2, 2, 24, dtype=np.float32).reshape(shape)
    expected = run(model, x)
    found = optimizer.optimize(model)
    known = {v.name for v in (*found.graph.input, *found.graph.initializer)}
    known |= {made for node in found.graph.node for made in node.output}
    lost = sorted({read for node in found.graph.node for read in node.input if read and read not in known})
    print(f"{name}: {[node.op_type for node in found.graph.node]}, read and not there: {lost}")
    if name.startswith("one"):
        assert not lost and np.array_equal(run(found, x), expected), name
        continue
    assert lost, name
    try:
        run(found, x)
    except Exception as error:
        print("  ONNX Runtime:", str(error).splitlines()[0][:110])
    else:
        raise AssertionError(f"{name}: ONNX Runtime takes the file")
print("as described: one of two constants is lost")
PYTHON
