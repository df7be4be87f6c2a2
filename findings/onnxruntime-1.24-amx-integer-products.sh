#!/usr/bin/env bash
# onnxruntime 1.24.4 against 1.25.0, onnx 1.23.2, x86-64 with AMX (amx_int8): MatMulInteger of uint8 [32, 64] by int8
# [64, n] gives wrong int32 sums for n = 17 to 31.
# Expected: exact int32 sums, which the operator's definition leaves no freedom for.
# Seen: some elements differ from numpy with 1.24.4, none with 1.25.0. On Python 3.10 the newest onnxruntime is 1.23.2,
# which is wrong alike. On processors without AMX there is nothing to see, and the script says so.
# The script fails if that changes.
set -euo pipefail
export ORT_DISABLE_TELEMETRY=1
grep -q amx_int8 /proc/cpuinfo || { echo "this processor has no AMX: nothing to see here"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/sums.py" <<'PYTHON'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

rng, wrong = np.random.default_rng(0), []
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
for columns in range(1, 81):
    for _ in range(3):
        a = rng.integers(0, 256, (32, 64)).astype(np.uint8)
        b = rng.integers(-128, 128, (64, columns)).astype(np.int8)
        node = helper.make_node("MatMulInteger", ["a", "b"], ["y"])
        x = helper.make_tensor_value_info("a", TensorProto.UINT8, [32, 64])
        y = helper.make_tensor_value_info("y", TensorProto.INT32, [32, columns])
        graph = helper.make_graph([node], "g", [x], [y], [numpy_helper.from_array(b, "b")])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        found = session.run(None, {"a": a})[0]
        if not np.array_equal(found, a.astype(np.int32) @ b.astype(np.int32)):
            wrong.append(columns)
columns = sorted(set(wrong))
print(onnxruntime.__version__, "columns with wrong sums:", columns or "none")
old = onnxruntime.__version__.startswith("1.24")
assert bool(columns) == old, "this has changed"
assert columns == (list(range(17, 32)) if old else []), "other columns are wrong now"
PYTHON
for version in 1.24.4 1.25.0; do
  python3 -m venv "$work/$version"
  "$work/$version/bin/pip" install --quiet --disable-pip-version-check "onnxruntime==$version" onnx==1.23.2 numpy==2.4.6
  "$work/$version/bin/python" "$work/sums.py"
done
echo "as described"
