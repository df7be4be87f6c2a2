#!/usr/bin/env bash
# onnxruntime 1.32.0, onnx 1.23.2: quantize_static takes a model that is quantized already, and quantizes it once more:
# between a convolution and its QuantizeLinear it puts a second pair, on a grid of its own.
# Expected: nothing to do (every tensor around the convolution is on a grid), or an error: quantize_dynamic refuses the
# same model ("Expected weights to be an initializer").
# Seen: QuantizeLinear, DequantizeLinear, QuantizeLinear in a row; the codes of the model's own grid differ. It warns of
# the bias alone ("Expected bias 'bias' to be an initializer"), and of nothing where the convolution has none.
# The script fails if that changes.
set -euo pipefail
export ORT_DISABLE_TELEMETRY=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 sympy==1.14.0
cd "$work"
"$work/env/bin/python" - <<'PYTHON'
import logging

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, checker, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, quantize_dynamic, quantize_static

said = []
logging.basicConfig(level=logging.WARNING, handlers=[type("H", (logging.Handler,), {"emit": lambda s, r: said.append(r.getMessage())})()])
W = np.random.default_rng(0).integers(-9, 10, (4, 3, 3, 3)).astype(np.int8)
CONSTANTS = {
    **{"s": np.float32(0.05), "z": np.uint8(128), "w": W, "w_scale": np.float32(0.01), "w_zero": np.int8(0)},
    **{"b": np.arange(4, dtype=np.int32), "b_scale": np.float32(0.05 * 0.01), "b_zero": np.int32(0), "t": np.float32(0.03)},
}
n = helper.make_node
nodes = [
    n("QuantizeLinear", ["x", "s", "z"], ["x_codes"], "q_x"),
    n("DequantizeLinear", ["x_codes", "s", "z"], ["values"], "dq_x"),
    n("DequantizeLinear", ["w", "w_scale", "w_zero"], ["weights"], "dq_w"),
    n("DequantizeLinear", ["b", "b_scale", "b_zero"], ["bias"], "dq_b"),
    n("Conv", ["values", "weights", "bias"], ["sums"], "conv"),
    n("QuantizeLinear", ["sums", "t", "z"], ["codes"], "q_y"),
    n("DequantizeLinear", ["codes", "t", "z"], ["y"], "dq_y"),
]
values = [helper.make_tensor_value_info(*v) for v in (("x", TensorProto.FLOAT, [1, 3, 16, 16]), ("y", TensorProto.FLOAT, [1, 4, 14, 14]))]
constants = [numpy_helper.from_array(np.asarray(v), name) for name, v in CONSTANTS.items()]
model = helper.make_model(
    helper.make_graph(nodes, "g", values[:1], values[1:], constants),
    opset_imports=[helper.make_opsetid("", 17)],
    ir_version=8,
)
checker.check_model(model, full_check=True)
images = [np.random.default_rng(seed).normal(size=(1, 3, 16, 16)).astype(np.float32) for seed in range(8)]


class Reader(CalibrationDataReader):
    rows = iter([{"x": x} for x in images])

    def get_next(self):
        return next(self.rows, None)


onnx.save(model, "model.onnx")
quantize_static("model.onnx", "again.onnx", Reader())
said = [text for text in said if "pre-processing" not in text]  # which is advice for every model
made = {node.output[0]: node for node in onnx.load("again.onnx").graph.node}
chain, name = [], "y"
while name in made and made[name].op_type != "Conv":
    chain.append(made[name].op_type)
    name = made[name].input[0]
options = ort.SessionOptions()
options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
outputs = [ort.InferenceSession(file, options) for file in ("model.onnx", "again.onnx")]
found = [np.concatenate([session.run(None, {"x": x})[0] for x in images]) for session in outputs]
differing = int((np.rint(found[0] / np.float32(0.03)) != np.rint(found[1] / np.float32(0.03))).sum())
print("behind the convolution:", *chain[::-1], "| said:", said, f"| {differing} of {found[0].size} codes differ")
assert chain[::-1] == ["QuantizeLinear", "DequantizeLinear"] * 2 and differing > 0, "it has changed"
assert said == ["Expected bias 'bias' to be an initializer"], said
said.clear()
conv = next(node for node in model.graph.node if node.op_type == "Conv")
conv.input.pop()
onnx.save(model, "without.onnx")
Reader.rows = iter([{"x": x} for x in images])
quantize_static("without.onnx", "again.onnx", Reader())
said = [text for text in said if "pre-processing" not in text]
count = sum(node.op_type == "QuantizeLinear" for node in onnx.load("again.onnx").graph.node)
print("without a bias:", count, "QuantizeLinear, said:", said)
assert (count, said) == (3, []), "it has changed"
try:
    quantize_dynamic("model.onnx", "dynamic.onnx")
except ValueError as error:
    print("quantize_dynamic:", error)
    assert str(error) == "Expected weights to be an initializer"
else:
    raise AssertionError("quantize_dynamic takes the model")
print("as described")
PYTHON
