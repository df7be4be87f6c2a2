#!/usr/bin/env bash
# onnx2tf 1.29.24: a conversion writes its *input* file anew, in place: nodes get names, and onnx-simplifier's result takes
# the place of the network. Whoever keeps a sum of the file (SHA256SUMS, a signature, a registry) finds it damaged, and
# what was tested is no longer what was handed over. not_use_onnxsim=True stops one of the writes, not that of node names.
# Expected: the file that is given is read. The documentation of input_onnx_file_path says "Input onnx file path." alone.
# Seen: other bytes after convert(), a node without a name is now called sng_MatMul_0.
# The script fails if that changes.
set -euo pipefail
export ORT_DISABLE_TELEMETRY=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check onnx2tf==1.29.24
cd "$work"
"$work/env/bin/python" - <<'PYTHON' 2>"$work/said" || { tail -20 "$work/said"; exit 1; }
from pathlib import Path

import numpy as np
import onnx
import onnx2tf
from onnx import TensorProto, helper, numpy_helper

x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size]) for name, size in (("x", 4), ("y", 3)))
weight = numpy_helper.from_array(np.ones((4, 3), np.float32), "w")
graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [weight])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.checker.check_model(model, full_check=True)
for options in ({}, {"not_use_onnxsim": True}):
    onnx.save(model, "model.onnx")
    before = Path("model.onnx").read_bytes()
    onnx2tf.convert(input_onnx_file_path="model.onnx", output_folder_path="out", non_verbose=True, **options)
    names = [node.name for node in onnx.load("model.onnx").graph.node]
    print(options, "the same bytes:", Path("model.onnx").read_bytes() == before, "names of nodes:", names)
    assert Path("model.onnx").read_bytes() != before and names == ["sng_MatMul_0"], names
print("as described: the file that was given is another one afterwards")
PYTHON
