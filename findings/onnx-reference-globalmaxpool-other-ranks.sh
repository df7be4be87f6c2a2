#!/usr/bin/env bash
# onnx 1.23.2: ReferenceEvaluator computes GlobalMaxPool right for [N, C, H, W] alone. Of [N, C, L] it takes the maximum
# over the channels as well and gives [N, 1]; of [N, C, D, H, W] it takes none over D and gives [N, C, D, 1, 1, 1]. No
# error is raised. GlobalAveragePool is right for all three.
# Expected: what the operator is specified to be for any number of axes, [N, C, 1, …], as ONNX Runtime gives it.
# Seen: (2, 1) and (2, 3, 4, 1, 1, 1) in place of (2, 3, 1) and (2, 3, 1, 1, 1).
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
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator


def shapes(operator, shape):
    """(of the reference evaluator, of ONNX Runtime)."""
    node = helper.make_node(operator, ["x"], ["y"])
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * len(shape))
    graph = helper.make_graph([node], "g", [given], [made])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return ReferenceEvaluator(model).run(None, {"x": x})[0].shape, session.run(None, {"x": x})[0].shape


seen = {(op, shape): shapes(op, shape) for op in ("GlobalMaxPool", "GlobalAveragePool") for shape in ((2, 3, 4), (2, 3, 4, 5), (2, 3, 4, 5, 6))}
for what, found in seen.items():
    print(*what, found)
assert seen["GlobalMaxPool", (2, 3, 4)] == ((2, 1), (2, 3, 1))
assert seen["GlobalMaxPool", (2, 3, 4, 5, 6)] == ((2, 3, 4, 1, 1, 1), (2, 3, 1, 1, 1))
assert all(a == b for (op, shape), (a, b) in seen.items() if op == "GlobalAveragePool" or len(shape) == 4)
print("as described: other ranks than four have another result")
PYTHON
