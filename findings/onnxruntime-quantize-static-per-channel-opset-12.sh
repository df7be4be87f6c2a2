#!/usr/bin/env bash
# onnxruntime 1.32.0: quantize_static with per_channel=True and the format QDQ, on a network of operator set 11 or 12, returns without
# an error or a warning and writes a file that nothing reads. Its DequantizeLinear nodes of weights and biases have the attribute
# `axis`, which came with operator set 13, while the file still says 11 or 12: onnx.checker refuses it, and so does ONNX Runtime itself
# (INVALID_GRAPH). Many public networks are of these sets (those of rapidocr-onnxruntime 1.4.4 are), and have to be converted before.
# Expected: the operator set is raised, as for those below 11, or an error names it.
# Seen: 11 and 12: no file that loads; 13: it loads.
# The script fails if that changes.
set -euo pipefail
export ORT_DISABLE_TELEMETRY=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2 sympy==1.14.0
cd "$work"
"$work/env/bin/python" - <<'PYTHON' 2>"$work/said" || { tail -20 "$work/said"; exit 1; }
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

rng = np.random.default_rng(0)


class Samples:
    def __init__(self):
        self.rest = iter([{"x": rng.normal(size=(2, 3, 8, 8)).astype(np.float32)} for _ in range(3)])

    def get_next(self):
        return next(self.rest, None)


def network(opset):
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", c, 8, 8]) for n, c in (("x", 3), ("y", 4)))
    weight = numpy_helper.from_array(rng.normal(size=(4, 3, 3, 3)).astype(np.float32), "w")
    bias = numpy_helper.from_array(rng.normal(size=4).astype(np.float32), "b")
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["y"], name="conv", pads=[1] * 4)]
    graph = helper.make_graph(nodes, "g", [x], [y], [weight, bias])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)
    onnx.checker.check_model(model, full_check=True)
    return model


seen = {}
for opset in (11, 12, 13):
    onnx.save(network(opset), "float.onnx")
    quantize_static(
        "float.onnx", "int8.onnx", Samples(), quant_format=QuantFormat.QDQ, per_channel=True, weight_type=QuantType.QInt8
    )
    written = onnx.load("int8.onnx")
    says = {entry.domain: entry.version for entry in written.opset_import}[""]
    axes = sum(a.name == "axis" for n in written.graph.node if n.op_type == "DequantizeLinear" for a in n.attribute)
    try:
        onnxruntime.InferenceSession("int8.onnx", providers=["CPUExecutionProvider"])
        loads = True
    except Exception as error:
        loads = False
        assert "INVALID_GRAPH" in str(error), error
    seen[opset] = (says, axes, loads)
    print(f"network of set {opset}: file of set {says}, {axes} DequantizeLinear with an axis, loads: {loads}")
assert seen == {11: (11, 2, False), 12: (12, 2, False), 13: (13, 2, True)}, seen
print("as described: no error from quantize_static, and no file that loads")
PYTHON
